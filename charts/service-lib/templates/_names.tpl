{{/* All templates take (dict "root" $ "name" "orders" "service" <its values> "facts" <its part of files/services.yaml>). */}}

{{/* Names have at most 63 letters, and a service's at most 15 (values.schema.json): 47 are left for the release. */}}
{{- define "service-lib.fullname" -}}
{{ include "text.name" (dict "release" .root.Release.Name "name" .name "room" 47) }}
{{- end }}

{{- define "service-lib.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .name | quote }}
{{- end }}

{{- define "service-lib.labels" -}}
{{ include "service-lib.selector" . }}
app.kubernetes.io/part-of: {{ .root.Chart.Name | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "service-lib.image" -}}
{{- $image := mergeOverwrite (deepCopy .root.Values.image) (.service.image | default dict) -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest | toJson }}
{{- else -}}
{{ printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) | toJson }}
{{- end -}}
{{- end }}

{{/* (dict "root" $ "database" "orders_read"): the secret that holds the password of a database. */}}
{{- define "service-lib.databaseSecret" -}}
{{ printf "%s-%s" .root.Values.secrets.databases (.database | replace "_" "-") }}
{{- end }}

{{/* A claim outlives its release: its name may be as long as a release's, and is never cut. */}}
{{- define "service-lib.claimName" -}}
{{ .root.Release.Name }}-{{ .name }}
{{- end }}
