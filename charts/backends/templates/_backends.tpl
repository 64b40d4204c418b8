{{/* All take (dict "root" $ "name" "postgres" "uid" 999 "backend" <its values>). */}}
{{- define "backends.selector" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/part-of: backends
{{- end }}

{{/* A StatefulSet's pods carry its name and a hash in a label, which leaves it 52 letters, and 43 of them for the release. */}}
{{- define "backends.fullname" -}}
{{ include "text.name" (dict "release" .root.Release.Name "name" .name "length" 43) }}
{{- end }}

{{- define "backends.labels" -}}
{{ include "backends.selector" . }}
app.kubernetes.io/component: {{ .name | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* A StatefulSet of one pod and its Service. "ports": name to number; "container": what is its own; "writable": paths of scratch space;
     "files": keys of the secret under /etc/backends; "data": where its volume is mounted. */}}
{{- define "backends.one" -}}
{{- $fullname := include "backends.fullname" . -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $fullname }}
  labels: {{- include "backends.labels" . | nindent 4 }}
spec:
  selector: {{- include "backends.selector" . | nindent 4 }}
  publishNotReadyAddresses: {{ eq .name "kafka" }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $fullname }}
  labels: {{- include "backends.labels" . | nindent 4 }}
spec:
  serviceName: {{ $fullname }}
  replicas: 1
  selector:
    matchLabels: {{- include "backends.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "backends.labels" . | nindent 8 }}
      {{- with .files }}
      annotations:
        checksum/passwords: {{ include "backends.passwords" $.root | sha256sum | quote }}
      {{- end }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ .uid }}
        runAsGroup: {{ .uid }}
        fsGroup: {{ .uid }}
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: {{ toJson .name }}
          image: {{ toJson .backend.image }}
          imagePullPolicy: {{ .root.Values.imagePullPolicy }}
          {{- .container | nindent 10 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          ports:
            {{- range $name, $port := .ports }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
          startupProbe:
            tcpSocket: {port: {{ .probe }}}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 150
          readinessProbe:
            tcpSocket: {port: {{ .probe }}}
            periodSeconds: 5
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket: {port: {{ .probe }}}
            periodSeconds: 15
            timeoutSeconds: 10
            failureThreshold: 6
          resources: {{- toYaml .backend.resources | nindent 12 }}
          volumeMounts:
            {{- range $index, $path := .writable }}
            - {name: scratch-{{ $index }}, mountPath: {{ $path }}}
            {{- end }}
            {{- with .data }}
            - {name: data, mountPath: {{ . }}}
            {{- end }}
            {{- with .files }}
            - {name: files, mountPath: /etc/backends, readOnly: true}
            {{- end }}
      volumes:
        {{- range $index, $path := .writable }}
        - name: scratch-{{ $index }}
          emptyDir: {sizeLimit: 256Mi}
        {{- end }}
        {{- with .files }}
        - name: files
          secret:
            secretName: {{ toJson $.root.Values.secret }}
            defaultMode: 0440
            items:
              {{- range . }}
              - {key: {{ toJson . }}, path: {{ toJson . }}}
              {{- end }}
        {{- end }}
  {{- if .data }}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.storageClass }}
        storageClassName: {{ toJson . }}
        {{- end }}
        resources:
          requests: {storage: {{ toJson .backend.storage }}}
  {{- end }}
{{- end }}

{{/* A password for each backend, made once: those that are there already are kept. Postgres takes its superuser's at its first start alone, so the one that an installation
     had for all its backends stays Postgres' and the others are made anew. */}}
{{- define "backends.passwords" -}}
{{- if not (hasKey .Values "made") -}}
{{- $old := (lookup "v1" "Secret" .Release.Namespace .Values.secret).data | default dict -}}
{{- $admin := (lookup "v1" "Secret" .Release.Namespace .Values.rabbitmqSecret).data | default dict -}}
{{- $kept := dict "postgres" (get $old "postgres-password") "cache" (get $old "cache-password") "jobs" (get $old "jobs-password")
    "rabbitmq" (get $admin "password") -}}
{{- range .Values.services }}{{ $_ := set $kept (printf "rabbitmq-%s" .) (get $old (printf "rabbitmq-password-%s" .)) }}{{ end -}}
{{- $made := dict -}}
{{- range $name, $password := $kept }}{{ $_ := set $made $name (ternary (b64dec $password) (randAlphaNum 32) (not (empty $password))) }}{{ end -}}
{{- $_ := set .Values "made" $made -}}
{{- end -}}
{{ toYaml .Values.made }}
{{- end }}

{{/* Takes (dict "root" $ "of" <the passwords>). A user for each service: it reads the queues that begin with its name, publishes to queues and to the exchange of its
     name, and declares nothing. `shop` is of a time when all services were one user: nobody can log in as that any more. */}}
{{- define "backends.definitions" -}}
vhosts: [{name: /}]
users:
  - {name: caravan, password: {{ .of.rabbitmq | quote }}, tags: [administrator]}
  - {name: shop, password_hash: "", tags: []}
  {{- range .root.Values.services }}
  - {name: {{ toJson . }}, password: {{ get $.of (printf "rabbitmq-%s" .) | quote }}, tags: []}
  {{- end }}
permissions:
  - {user: caravan, vhost: /, configure: ".*", write: ".*", read: ".*"}
  - {user: shop, vhost: /, configure: "^$", write: "^$", read: "^$"}
  {{- range .root.Values.services }}
  - {user: {{ toJson . }}, vhost: /, configure: "^$", write: {{ printf "^(amq\\.default|%s)$" . | toJson }}, read: {{ printf "^%s\\." . | toJson }}}
  {{- end }}
{{- end }}

{{/* A user for the shop that may neither administer the server nor empty it. */}}
{{- define "backends.valkey" -}}
user default off
user shop on >{{ . }} ~* &* +@all -@admin -@dangerous +info
{{ end }}
