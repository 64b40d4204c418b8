{{/* A pod of this release by its component. */}}
{{- define "service-lib.peer" -}}
- podSelector:
    matchLabels: {{- include "service-lib.selector" . | nindent 6 }}
{{- end }}

{{/* The operator's pods, in the namespace that its URL names. */}}
{{- define "service-lib.operator" -}}
{{- $host := splitList "." (regexFind "[^/:]+" (trimPrefix "//" (regexFind "//.*" .Values.discovery.operatorUrl))) -}}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ toJson (gt (len $host) 1 | ternary (index (append $host "") 1) .Release.Namespace) }}}
  podSelector:
    matchLabels: {app.kubernetes.io/part-of: caravan-operator}
{{- end }}

{{- define "service-lib.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "service-lib.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if or .facts.callers .service.public }}
    - ports: [{port: http}]
      from:
        {{- range .facts.callers }}
        {{- include "service-lib.peer" (dict "root" $.root "name" .) | nindent 8 }}
        {{- end }}
        {{- if .service.public }}
        {{- toYaml .root.Values.networkPolicy.ingressFrom | nindent 8 }}
        {{- end }}
    {{- end }}
    {{- $discovered := eq .root.Values.discovery.by "operator" }}
    {{- if or $discovered .root.Values.networkPolicy.metricsFrom }}
    - ports: [{port: probes}]
      from:
        {{- with .root.Values.networkPolicy.metricsFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- if $discovered }}
        {{- include "service-lib.operator" .root | nindent 8 }}
        {{- end }}
    {{- end }}
  egress:
    {{- toYaml .root.Values.networkPolicy.dns | nindent 4 }}
    {{- with .facts.calls }}
    - ports: [{port: 8080}]
      to:
        {{- range . }}
        {{- include "service-lib.peer" (dict "root" $.root "name" .) | nindent 8 }}
        {{- end }}
    {{- end }}
    {{- if $discovered }}
    {{- with .root.Values.networkPolicy.operator }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - ports: [{port: 8081}]
      to:
        {{- include "service-lib.operator" .root | nindent 8 }}
    {{- end }}
    {{- end }}
    {{- if not .root.Values.backends.embedded }}
    {{- toYaml .root.Values.networkPolicy.backends | nindent 4 }}
    {{- end }}
    {{- with .root.Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
