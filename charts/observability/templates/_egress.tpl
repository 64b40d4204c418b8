{{/* (dict "root" $ "name" "collector"): the egress rules of a part. The stores connect to nobody. */}}
{{- define "observability.egress" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- if not (has .name (list "loki" "jaeger")) }}
{{- toYaml $policy.dns }}
{{ end }}
{{- if eq .name "prometheus" }}
- ports: [{port: 8080}, {port: 8081}, {port: 15692}]
  to:
    {{- include "observability.watched" (dict "root" .root "parts" (list "caravan" "caravan-operator" "backends")) | nindent 4 }}
- to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
          app.kubernetes.io/part-of: observability
{{ toYaml $policy.apiServer }}
{{- if .root.Values.kubelet.enabled }}
- ports: [{port: 10250}]
{{- end }}
{{ with $policy.outside }}{{ toYaml . }}{{ end }}
{{- else if eq .name "alertmanager" }}
{{- toYaml $policy.receivers }}
{{- else if eq .name "collector" }}
- ports: [{port: 4318}, {port: 3100}]
  to:
    {{- include "observability.peers" (dict "root" .root "names" (list "jaeger" "loki")) | nindent 4 }}
{{ with $policy.outside }}{{ toYaml . }}{{ end }}
{{- else if eq .name "grafana" }}
- ports: [{port: 9090}, {port: 9093}, {port: 3100}, {port: 16686}]
  to:
    {{- include "observability.peers" (dict "root" .root "names" (list "prometheus" "alertmanager" "loki" "jaeger")) | nindent 4 }}
{{ with $policy.outside }}{{ toYaml . }}{{ end }}
{{- else if eq .name "kube-state" }}
{{- toYaml $policy.apiServer }}
{{- else if hasSuffix "-exporter" .name }}
- ports: [{port: 5432}, {port: 6379}, {port: 9092}]
  to:
    {{- include "observability.watched" (dict "root" .root "parts" (list "backends")) | nindent 4 }}
{{ with $policy.outside }}{{ toYaml . }}{{ end }}
{{- end }}
{{- end }}
