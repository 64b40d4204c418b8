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
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "service-lib.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: {{ not .root.Values.development }}
  capabilities: {drop: [ALL]}
{{- end }}

{{/* The files under /run/secrets: the shop's, the backends' and the passwords of this service's own databases. */}}
{{- define "service-lib.secrets" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ toJson .root.Values.secrets.name }}
          items:
            - {key: CARAVAN_SECRET, path: CARAVAN_SECRET}
            {{- if .service.makesAdmin }}
            - {key: CARAVAN_ADMIN_PASSWORD, path: CARAVAN_ADMIN_PASSWORD}
            {{- end }}
      {{- if not .root.Values.backends.embedded }}
      {{- with .service.backendSecrets }}
      - secret:
          name: {{ $.service.backendSecret | default $.root.Values.backends.secret | toJson }}
          items:
            {{- range . }}
            - {key: {{ toJson . }}, path: {{ toJson . }}}
            {{- end }}
      {{- end }}
      {{- with .service.ownKeys }}
      - secret:
          name: {{ toJson $.root.Values.backends.secret }}
          items:
            {{- range . }}
            - {key: {{ printf "%s.%s" $.name . | toJson }}, path: {{ toJson . }}}
            {{- end }}
      {{- end }}
      {{- range .facts.databases }}
      - secret:
          name: {{ include "service-lib.databaseSecret" (dict "root" $.root "database" .) | toJson }}
          items:
            - {key: password, path: {{ printf "databases/%s" . | toJson }}}
      {{- end }}
      {{- end }}
{{- end }}

{{- define "service-lib.environment" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
- {name: {{ toJson $name }}, value: {{ include "text.of" $value }}}
{{- end }}
{{- end }}
{{- end }}
