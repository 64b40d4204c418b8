{{/* What every pod has, services and jobs alike: the restricted profile and a root file system that can't be written. */}}

{{- define "service-lib.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "service-lib.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: {{ not .development }}
  capabilities: {drop: [ALL]}
{{- end }}

{{/* The volume of the files under /run/secrets. */}}
{{- define "service-lib.secrets" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- .secretSources | nindent 6 }}
{{- end }}

{{- define "service-lib.environment" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
- {name: {{ toJson $name }}, value: {{ include "text.of" $value }}}
{{- end }}
{{- end }}
{{- end }}
