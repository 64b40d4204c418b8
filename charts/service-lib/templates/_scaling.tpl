{{- define "service-lib.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "service-lib.fullname" . }}}
  minReplicas: {{ int64 .service.autoscaling.min }}
  maxReplicas: {{ int64 .service.autoscaling.max }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ int64 .service.autoscaling.cpuPercent }}}}
  behavior:
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 100, periodSeconds: 15}]}
    scaleDown: {stabilizationWindowSeconds: 300, policies: [{type: Pods, value: 1, periodSeconds: 60}]}
{{- end }}

{{/* KEDA: by what waits in the channels that this service reads, as they are declared; never more replicas than partitions can use. */}}
{{- define "service-lib.scaledObject" -}}
{{- $partitions := 1 -}}
{{- range .scaling.topics }}{{ $partitions = max $partitions .partitions }}{{ end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ include "service-lib.fullname" . }}}
  minReplicaCount: {{ int64 .service.keda.min }}
  maxReplicaCount: {{ .service.keda.max | default $partitions | int64 }}
  triggers:
    {{- range .scaling.topics }}
    - type: kafka
      metadata:
        bootstrapServers: {{ toJson $.scaling.kafkaUrl }}
        consumerGroup: {{ toJson .group }}
        topic: {{ toJson .name }}
        lagThreshold: {{ include "text.of" $.service.keda.lag }}
        offsetResetPolicy: earliest
        {{- with $.scaling.kafkaMetadata }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if $.scaling.kafkaSecrets }}
      authenticationRef: {name: {{ include "service-lib.fullname" $ }}-kafka}
      {{- end }}
    {{- end }}
    {{- range .scaling.queues }}
    - type: rabbitmq
      metadata: {queueName: {{ toJson . }}, mode: QueueLength, value: {{ include "text.of" $.service.keda.lag }}}
      authenticationRef: {name: {{ include "service-lib.fullname" $ }}}
    {{- end }}
{{- end }}

{{/* How many messages wait is asked as the service itself. One for each kind of broker: both name their certificates alike. */}}
{{- define "service-lib.triggerAuthentication" -}}
{{- if .scaling.queues -}}
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  secretTargetRef: {{- toYaml .scaling.rabbitmqSecrets | nindent 4 }}
  {{- with .scaling.rabbitmqSettings }}
  configMapTargetRef: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if and .scaling.topics .scaling.kafkaSecrets }}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  name: {{ include "service-lib.fullname" . }}-kafka
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  secretTargetRef: {{- toYaml .scaling.kafkaSecrets | nindent 4 }}
{{- end }}
{{- end }}
