{{/* (dict "root" $ "name" "prometheus" "kind" "Role" "namespace" "shop" "rules" (list ...)): a role of this part, and its binding. */}}
{{- define "observability.role" -}}
{{- $account := include "observability.fullname" . -}}
{{- $name := eq .kind "ClusterRole" | ternary (printf "%s-%s" .root.Release.Namespace $account) $account -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ toJson . }}
  {{- end }}
  labels: {{- include "observability.labels" . | nindent 4 }}
rules: {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ toJson . }}
  {{- end }}
  labels: {{- include "observability.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ .kind }}, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $account }}, namespace: {{ toJson .root.Release.Namespace }}}
{{- end }}
