{{/* The sources of the files under /run/secrets: the shop's, the backends' and the passwords of this service's own databases. */}}
{{- define "caravan.secretSources" -}}
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
{{- range .declaration.databases }}
- secret:
    name: {{ include "caravan.databaseSecret" (dict "root" $.root "database" .) | toJson }}
    items:
      - {key: password, path: {{ printf "databases/%s" . | toJson }}}
{{- end }}
{{- end }}
{{- end }}

{{/* (dict "root" $ "database" "orders_read"): the secret that holds the password of a database. */}}
{{- define "caravan.databaseSecret" -}}
{{ printf "%s-%s" .root.Values.secrets.databases (.database | replace "_" "-") }}
{{- end }}
