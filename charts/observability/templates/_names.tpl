{{/* All take (dict "root" $ "name" "prometheus"). */}}
{{- define "observability.selector" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/part-of: observability
{{- end }}

{{/* A StatefulSet's pods carry its name and a hash in a label, which leaves it 52 letters, and 34 of them for the release: the longest name has 17. */}}
{{- define "observability.fullname" -}}
{{ include "text.name" (dict "release" .root.Release.Name "name" .name "length" 34) }}
{{- end }}

{{- define "observability.labels" -}}
{{ include "observability.selector" . }}
app.kubernetes.io/component: {{ .name | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* (dict "root" $ "name" "loki" "port" 3100 "path" "/otlp" "given" "..."): where it is, as a part of this chart, or as the values say. */}}
{{- define "observability.address" -}}
{{- if (get .root.Values .name).enabled -}}
http://{{ include "observability.fullname" . }}:{{ .port }}{{ .path | default "" }}
{{- else -}}
{{ .given }}
{{- end -}}
{{- end }}

{{/* Pods of this release: (dict "root" $ "names" (list "grafana")). */}}
{{- define "observability.peers" -}}
{{- range .names }}
- podSelector:
    matchLabels: {{- include "observability.selector" (dict "root" $.root "name" .) | nindent 6 }}
{{- end }}
{{- end }}

{{/* Pods of the shop's namespaces, by what they are a part of: (dict "root" $ "parts" (list "caravan")). */}}
{{- define "observability.watched" -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson .root.Values.namespaces }}}
  podSelector:
    matchExpressions:
      - {key: app.kubernetes.io/part-of, operator: In, values: {{ toJson .parts }}}
{{- end }}
