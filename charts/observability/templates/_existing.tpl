{{- define "observability.dashboardName" -}}
{{ include "text.name" (dict "release" .root.Release.Name "name" (printf "dashboard-%s" (base .path | trimSuffix ".json")) "length" 34) }}
{{- end }}

{{/* Of pods and not of Services: a ServiceMonitor gives each target a label `service`, which the shop's metrics have themselves. */}}
{{- define "observability.podMonitor" -}}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ include "observability.fullname" . }}
  labels:
    {{- include "observability.labels" . | nindent 4 }}
    {{- include "text.map" .root.Values.existing.labels | indent 4 }}
spec:
  namespaceSelector: {matchNames: {{ toJson .namespaces }}}
  selector: {{- toYaml .selector | nindent 4 }}
  podMetricsEndpoints:
    {{- range .endpoints }}
    - port: {{ .port }}
      {{- with .path }}
      path: {{ . }}
      {{- end }}
      {{- with .params }}
      params: {{- toYaml . | nindent 8 }}
      {{- end }}
      relabelings:
        {{- if .job }}
        - {targetLabel: job, replacement: {{ .job }}}
        {{- else }}
        - {sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_component], regex: "(.+)", targetLabel: job}
        - {sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_part_of], regex: caravan-operator, targetLabel: job, replacement: operator}
        {{- end }}
    {{- end }}
{{- end }}
