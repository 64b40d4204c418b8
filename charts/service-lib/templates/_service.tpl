{{- define "service-lib.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  selector: {{- include "service-lib.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 8080, targetPort: http}
    - {name: probes, port: 8081, targetPort: probes}
{{- end }}

{{- define "service-lib.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end }}

{{- define "service-lib.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "service-lib.selector" . | nindent 6 }}
{{- end }}

{{- define "service-lib.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "service-lib.claimName" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  accessModes: [ReadWriteOnce]
  {{- with .service.persistence.storageClass }}
  storageClassName: {{ toJson . }}
  {{- end }}
  resources:
    requests: {storage: {{ toJson .service.persistence.size }}}
{{- end }}

{{/* How the service is found and called; what it declares in its OpenAPI document is public at the gateway. */}}
{{- define "service-lib.serviceRoute" -}}
apiVersion: discovery.caravan.dev/v1alpha1
kind: ServiceRoute
metadata:
  name: {{ toJson .name }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
spec:
  gateway: {{ include "service-lib.fullname" (dict "root" .root "name" "gateway") }}
  serviceRef: {name: {{ include "service-lib.fullname" . }}, port: http}
  {{- if .facts.public }}
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
