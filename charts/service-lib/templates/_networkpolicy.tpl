{{/* A pod of this release by its component. */}}
{{- define "service-lib.peer" -}}
- podSelector:
    matchLabels: {{- include "service-lib.selector" . | nindent 6 }}
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
    {{- if or .network.callers .network.ingressFrom }}
    - ports: [{port: http}]
      from:
        {{- range .network.callers }}
        {{- include "service-lib.peer" (dict "root" $.root "name" .) | nindent 8 }}
        {{- end }}
        {{- with .network.ingressFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- end }}
    {{- with .network.probesFrom }}
    - ports: [{port: probes}]
      from:
        {{- . | nindent 8 }}
    {{- end }}
  egress:
    {{- toYaml .network.dns | nindent 4 }}
    {{- with .network.calls }}
    - ports: [{port: 8080}]
      to:
        {{- range . }}
        {{- include "service-lib.peer" (dict "root" $.root "name" .) | nindent 8 }}
        {{- end }}
    {{- end }}
    {{- with .network.egress }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}
