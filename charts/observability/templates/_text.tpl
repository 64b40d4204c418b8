{{/* The only ways from a value or a release's name into a manifest. Every chart has this very file; a test compares them. */}}

{{/* A scalar as the text that it is: numbers whole (Helm reads 12500000 as 1.25e+07), and in quotes, so that `on`, `1e3` and `#` stay text. */}}
{{- define "text.of" -}}
{{- if kindIs "string" . -}}
{{ toJson . }}
{{- else if kindIs "invalid" . -}}
""
{{- else if or (kindIs "map" .) (kindIs "slice" .) -}}
{{ fail (printf "%s: expected a text, a number or true/false" (toJson .)) }}
{{- else if and (kindIs "float64" .) (or (ge (float64 .) 9007199254740992.0) (le (float64 .) -9007199254740992.0)) -}}
{{ fail (printf "%v: a number this large loses digits; write it in quotes" .) }}
{{- else -}}
{{ toJson . | quote }}
{{- end -}}
{{- end }}

{{/* A map of texts, such as annotations: one line each; what is null is left out. */}}
{{- define "text.map" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{ toJson $name }}: {{ include "text.of" $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* (dict "release" .Release.Name "name" "orders" "length" 47): the name of an object of this release. A release longer than `length`, what the longest name leaves of
     63 letters, is cut, and told from its like by a part of its hash; the rest of the name is never cut, so that names can be put together from a pattern. */}}
{{- define "text.name" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .release) -}}
{{ fail (printf "release %s: expected a letter, then letters, digits and dashes, since Services are named after it" .release) }}
{{- end -}}
{{- $release := .release -}}
{{- if gt (len $release) (int .length) -}}
{{- $release = printf "%s-%s" (trunc (int (sub .length 9)) $release) (sha256sum $release | trunc 8) -}}
{{- end -}}
{{ $release }}-{{ .name }}
{{- end }}
