{{- define "service-lib.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "service-lib.fullname" . }}}
  minReplicas: {{ .service.autoscaling.min }}
  maxReplicas: {{ .service.autoscaling.max }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .service.autoscaling.cpuPercent }}}}
  behavior:
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 100, periodSeconds: 15}]}
    scaleDown: {stabilizationWindowSeconds: 300, policies: [{type: Pods, value: 1, periodSeconds: 60}]}
{{- end }}

{{/* KEDA: by what waits in the channels that this service reads, as they are declared; never more replicas than partitions can use. */}}
{{- define "service-lib.scaledObject" -}}
{{- $partitions := 1 -}}
{{- range .facts.topics }}{{ $partitions = max $partitions .partitions }}{{ end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ include "service-lib.fullname" . }}}
  minReplicaCount: {{ .service.keda.min }}
  maxReplicaCount: {{ .service.keda.max | default $partitions }}
  triggers:
    {{- range .facts.topics }}
    - type: kafka
      metadata:
        bootstrapServers: {{ $.root.Values.backends.kafkaUrl }}
        consumerGroup: {{ .group }}
        topic: {{ .name }}
        lagThreshold: {{ $.service.keda.lag | quote }}
        offsetResetPolicy: earliest
    {{- end }}
    {{- range .facts.queues }}
    - type: rabbitmq
      metadata: {queueName: {{ . }}, mode: QueueLength, value: {{ $.service.keda.lag | quote }}}
      authenticationRef: {name: {{ $.root.Release.Name }}-rabbitmq}
    {{- end }}
{{- end }}
