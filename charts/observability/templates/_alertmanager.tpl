{{/* observability/alertmanager/config.yaml with the receivers of the values: a receiver of which nobody says how to reach it tells nobody. */}}
{{- define "observability.receivers" -}}
{{- $config := .Files.Get "files/alertmanager/config.yaml" | fromYaml -}}
{{- $given := .Values.alertmanager.receivers -}}
{{- $receivers := list -}}
{{- $names := list -}}
{{- range $config.receivers -}}
{{- $names = append $names .name -}}
{{- $own := get $given.instead .name -}}
{{- if $own -}}
{{- $receivers = append $receivers (merge (dict "name" .name) $own) -}}
{{- else -}}
{{- $receivers = append $receivers (ternary . (dict "name" .name) (not (empty $given.secret))) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $given.instead -}}
{{- if not (has $name $names) -}}
{{ fail (printf "alertmanager.receivers.instead.%s: no such receiver; there are %s" $name (join ", " $names)) }}
{{- end -}}
{{- end -}}
{{ toYaml (set $config "receivers" $receivers) }}
{{- end }}
