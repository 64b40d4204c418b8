{{/* (dict "root" $ "name" "migration" "hook" "pre-install,pre-upgrade" "weight" "0" "deadline" 600): the head of a Job that is a hook. */}}
{{- define "caravan.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "service-lib.fullname" . }}
  labels: {{- include "service-lib.labels" . | nindent 4 }}
  annotations:
    helm.sh/hook: {{ .hook | quote }}
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  backoffLimit: 6
  activeDeadlineSeconds: {{ int64 .deadline }}
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels: {{- include "service-lib.labels" . | nindent 8 }}
    spec:
      restartPolicy: OnFailure
      {{- include "service-lib.podSecurity" (dict "imagePullSecrets" .root.Values.imagePullSecrets) | nindent 6 }}
{{- end }}

{{/* The container of a Job: its own secrets and the certificates of `backends`, settings in the environment (a ConfigMap comes only after a pre-install
     hook). */}}
{{- define "caravan.jobContainer" -}}
containers:
  - name: {{ toJson .name }}
    image: {{ include "service-lib.image" (dict "root" .root "image" .root.Values.image) }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ toJson .args }}
    {{- include "service-lib.containerSecurity" (dict "development" .root.Values.development) | nindent 4 }}
    resources:
      requests: {cpu: 50m, memory: 160Mi}
      limits: {cpu: "1", memory: 384Mi}
    {{- with merge .environment (include "caravan.tlsSettings" . | fromYaml) }}
    env: {{- include "service-lib.environment" . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: secrets, mountPath: /run/secrets, readOnly: true}
      {{- if include "caravan.certificateSources" . }}
      {{- include "caravan.certificateMount" . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- include "service-lib.secrets" (dict "secretSources" (include "caravan.secretSources" .)) | nindent 2 }}
  {{- if include "caravan.certificateSources" . }}
  {{- include "caravan.certificateVolume" . | nindent 2 }}
  {{- end }}
{{- end }}
