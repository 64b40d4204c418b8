{{/* One part: a Service and a pod, with a volume or without. Takes root, name, and
part       its values: image, resources, storage
uid        of its image's user
ports      name to number
probe      port and path that say that it is ready; "alive": another path that says that it need not be restarted
args       of the container
env        name to text
secretEnv  a secret whose keys are its environment
files      name to text: a ConfigMap of its own, the volume `files`, mounted at "filesAt"
reads      what else it reads at its start alone
mounts, volumes   more of them, as text
data       where its volume is mounted
writable   paths of scratch space
token      it asks the API server */}}
{{- define "observability.one" -}}
{{- $fullname := include "observability.fullname" . -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $fullname }}
  labels: {{- include "observability.labels" . | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $fullname }}
  labels: {{- include "observability.labels" . | nindent 4 }}
spec:
  selector: {{- include "observability.selector" . | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
{{- with .files }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $fullname }}
  labels: {{- include "observability.labels" $ | nindent 4 }}
data:
  {{- range $name, $text := . }}
  {{ toJson $name }}: {{ toJson $text }}
  {{- end }}
{{- end }}
---
apiVersion: apps/v1
kind: {{ ternary "StatefulSet" "Deployment" (not (empty .data)) }}
metadata:
  name: {{ $fullname }}
  labels: {{- include "observability.labels" . | nindent 4 }}
spec:
  {{- if .data }}
  serviceName: {{ $fullname }}
  {{- end }}
  replicas: 1
  revisionHistoryLimit: 3
  selector:
    matchLabels: {{- include "observability.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "observability.labels" . | nindent 8 }}
      annotations:
        checksum/files: {{ list .files .reads | toJson | sha256sum | quote }}
    spec: {{- include "observability.pod" . | nindent 6 }}
  {{- if .data }}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.storageClass }}
        storageClassName: {{ toJson . }}
        {{- end }}
        resources:
          requests: {storage: {{ toJson .part.storage }}}
  {{- end }}
{{- end }}

{{- define "observability.pod" -}}
serviceAccountName: {{ include "observability.fullname" . }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
terminationGracePeriodSeconds: 60
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid }}
  runAsGroup: {{ .uid }}
  fsGroup: {{ .uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
containers:
  - name: {{ .name }}
    image: {{ toJson .part.image }}
    imagePullPolicy: {{ .root.Values.imagePullPolicy }}
    {{- with .args }}
    args: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .env }}
    env:
      {{- range $name, $value := . }}
      - {name: {{ $name }}, value: {{ include "text.of" $value }}}
      {{- end }}
    {{- end }}
    {{- with .secretEnv }}
    envFrom:
      - secretRef: {name: {{ toJson . }}}
    {{- end }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    ports:
      {{- range $name, $port := .ports }}
      - {name: {{ $name }}, containerPort: {{ $port }}}
      {{- end }}
    startupProbe:
      httpGet: &ready {path: {{ .probe.path }}, port: {{ .probe.port }}}
      periodSeconds: 3
      timeoutSeconds: 5
      failureThreshold: 100
    readinessProbe:
      httpGet: *ready
      periodSeconds: 10
      timeoutSeconds: 5
    livenessProbe:
      httpGet: {path: {{ .probe.alive | default .probe.path }}, port: {{ .probe.port }}}
      periodSeconds: 20
      timeoutSeconds: 10
      failureThreshold: 6
    resources: {{- toYaml .part.resources | nindent 6 }}
    volumeMounts:
      {{- range $index, $path := .writable }}
      - {name: scratch-{{ $index }}, mountPath: {{ $path }}}
      {{- end }}
      {{- with .data }}
      - {name: data, mountPath: {{ . }}}
      {{- end }}
      {{- if .filesAt }}
      - {name: files, mountPath: {{ .filesAt }}, readOnly: true}
      {{- end }}
      {{- with .mounts }}
      {{- . | nindent 6 }}
      {{- end }}
volumes:
  {{- range $index, $path := .writable }}
  - name: scratch-{{ $index }}
    emptyDir: {sizeLimit: 64Mi}
  {{- end }}
  {{- if .files }}
  - name: files
    configMap: {name: {{ include "observability.fullname" . }}}
  {{- end }}
  {{- with .volumes }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
