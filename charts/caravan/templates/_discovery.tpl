{{/* (dict "root" $ "url" "http://operator.ops:8081" "part" "caravan-operator"): pods of what it is a part of, in the namespace that the URL names. */}}
{{- define "caravan.peerAt" -}}
{{- $host := splitList "." (urlParse .url).hostname -}}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ toJson (gt (len $host) 1 | ternary (index (append $host "") 1) .root.Release.Namespace) }}}
  podSelector:
    matchLabels: {app.kubernetes.io/part-of: {{ .part }}}
{{- end }}

{{- define "caravan.operatorPeer" -}}
{{ include "caravan.peerAt" (dict "root" . "url" .Values.discovery.operatorUrl "part" "caravan-operator") }}
{{- end }}

{{/* How the service is found and called; what it declares in its OpenAPI document is public at the gateway. */}}
{{- define "caravan.serviceRoute" -}}
apiVersion: discovery.caravan.dev/v1alpha1
kind: ServiceRoute
metadata:
  name: {{ toJson .name }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  gateway: {{ include "service-lib.fullname" (dict "root" .root "name" "gateway") }}
  serviceRef: {name: {{ include "service-lib.fullname" . }}, port: http}
  {{- if .declaration.public }}
  routes:
    - pathsFrom: OpenAPI
  {{- end }}
  {{- $more := get .root.Values.discovery.routes .name | default dict }}
  {{- if .root.Values.development }}
  {{- /* A process that starts anew for an edit is no failing one, to be left alone for 15 s. */ -}}
  {{- $more = mergeOverwrite (dict "circuitBreaker" (dict "openFor" "500ms")) $more }}
  {{- end }}
  {{- with $more }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
