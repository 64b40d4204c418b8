{{- define "service-lib.deployment" -}}
{{- $fullname := include "service-lib.fullname" . -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $fullname }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  {{- if not (or .service.autoscaling.enabled .service.keda.enabled) }}
  replicas: {{ int64 .service.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    {{- if .service.persistence.enabled }}
    type: Recreate
    {{- else }}
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
    {{- end }}
  selector:
    matchLabels: {{- include "service-lib.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "service-lib.labels" . | nindent 8 }}
      annotations:
        checksum/settings: {{ toJson .settings.checksum }}
        {{- include "text.map" .service.podAnnotations | indent 8 }}
    spec:
      serviceAccountName: {{ $fullname }}
      {{- include "service-lib.podSecurity" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ add .service.preStopSeconds .service.drainSeconds 15 }}
      {{- with .service.priorityClassName }}
      priorityClassName: {{ toJson . }}
      {{- end }}
      {{- with .service.nodeSelector }}
      nodeSelector: {{- include "text.map" . | indent 8 }}
      {{- end }}
      {{- with .service.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range tuple "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "service-lib.selector" $ | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      containers:
        - name: {{ toJson .name }}
          image: {{ include "service-lib.image" . }}
          imagePullPolicy: {{ .image.pullPolicy }}
          {{- with .command }}
          command: {{ toJson . }}
          {{- end }}
          {{- with .args }}
          args: {{ toJson . }}
          {{- end }}
          {{- include "service-lib.containerSecurity" . | nindent 10 }}
          ports:
            - {name: http, containerPort: 8080}
            - {name: probes, containerPort: 8081}
          envFrom:
            - configMapRef: {name: {{ .settings.configMap }}}
          env:
            - {name: {{ .drainVariable }}, value: {{ include "text.of" .service.drainSeconds }}}
            # What a trace or a line of a log says of its pod: whoever collects them needs no right to ask the cluster.
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
            - name: OTEL_RESOURCE_ATTRIBUTES
              value: k8s.namespace.name={{ .root.Release.Namespace }},k8s.pod.name=$(POD_NAME),k8s.node.name=$(NODE_NAME),k8s.container.name={{ .name }}
            {{- include "service-lib.environment" .environment | nindent 12 }}
          startupProbe:
            httpGet: {path: /readyz, port: probes}
            periodSeconds: 3
            timeoutSeconds: 5
            failureThreshold: 100
          {{- if not .development }}
          livenessProbe:
            httpGet: {path: /livez, port: probes}
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 6
          {{- end }}
          readinessProbe:
            httpGet: {path: /readyz, port: probes}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 3
          lifecycle:
            # Requests still come until every proxy knows that this pod leaves.
            preStop:
              sleep: {seconds: {{ int64 .service.preStopSeconds }}}
          resources: {{- toYaml .service.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: data, mountPath: /data}
            {{- if .secretSources }}
            - {name: secrets, mountPath: /run/secrets, readOnly: true}
            {{- end }}
            {{- with .volumeMounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
        - name: data
          {{- if .service.persistence.enabled }}
          persistentVolumeClaim: {claimName: {{ include "service-lib.claimName" . }}}
          {{- else }}
          emptyDir: {sizeLimit: 64Mi}
          {{- end }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- if .secretSources }}
        {{- include "service-lib.secrets" . | nindent 8 }}
        {{- end }}
{{- end }}
