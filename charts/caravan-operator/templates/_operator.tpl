{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/part-of: {{ .Chart.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* The namespaces that it serves, as a list; none of them by name with allNamespaces. */}}
{{- define "operator.namespaces" -}}
{{- if .Values.allNamespaces }}[]{{ else }}{{ .Values.namespaces | default (list .Release.Namespace) | toJson }}{{ end -}}
{{- end }}

{{/* Pods of the shops that it serves. A label alone is no proof: in a namespace of their own, anybody may give it to a pod. */}}
{{- define "operator.shops" -}}
- namespaceSelector:
    {{- if .Values.allNamespaces }}
    matchLabels: {caravan.dev/served: "true"}
    {{- else }}
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ include "operator.namespaces" . }}}
    {{- end }}
  podSelector:
    matchLabels: {app.kubernetes.io/part-of: caravan}
{{- end }}

{{/* (dict "root" $ "kind" "Role" "name" "..." "namespace" "..." "rules" (list ...)): a role and its binding to the operator. */}}
{{- define "operator.role" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ toJson .name }}
  {{- with .namespace }}
  namespace: {{ toJson . }}
  {{- end }}
  labels: {{- include "operator.labels" .root | nindent 4 }}
rules: {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ toJson .name }}
  {{- with .namespace }}
  namespace: {{ toJson . }}
  {{- end }}
  labels: {{- include "operator.labels" .root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ .kind }}, name: {{ toJson .name }}}
subjects:
  - {kind: ServiceAccount, name: {{ toJson .root.Release.Name }}, namespace: {{ toJson .root.Release.Namespace }}}
{{- end }}
