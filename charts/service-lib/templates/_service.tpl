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
