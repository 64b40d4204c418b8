{{/* Settings that every service shares, as the data of a ConfigMap. */}}
{{- define "caravan.settings" -}}
{{- $settings := dict
    "CARAVAN_PORT" "8080"
    "CARAVAN_PROBE_PORT" "8081"
    "CARAVAN_PUBLIC_URL" .Values.publicUrl
-}}
{{- if not .Values.backends.embedded -}}
{{- $settings = merge $settings (dict
    "CARAVAN_DATABASE_URL" .Values.backends.databaseUrl
    "CARAVAN_DATABASE_PASSWORDS" "/run/secrets/databases"
    "CARAVAN_MIGRATE" "false"
    "CARAVAN_KAFKA_URL" .Values.backends.kafkaUrl
    "CARAVAN_DISCOVERY" (printf "http://%s:8080" (include "service-lib.fullname" (dict "root" . "name" "{service}")))
    "GATEWAY_SERVICES" (include "caravan.serving" .)
    "CARAVAN_DECLARE" "false"
    "CARAVAN_START_SECONDS" "180"
) (include "caravan.tlsSettings" (dict "root" . "backends" (keys .Values.backends.tls | sortAlpha)) | fromYaml) -}}
{{- end -}}
{{- with .Values.telemetry.otlpEndpoint }}{{ $_ := set $settings "CARAVAN_OTLP_ENDPOINT" . }}{{ end -}}
{{- if and (eq .Values.discovery.by "operator") (not .Values.backends.embedded) -}}
{{- /* The snapshot says it: a service that is added must not restart the others. */ -}}
{{- $settings = merge (omit $settings "GATEWAY_SERVICES") (dict
    "CARAVAN_REGISTRY_URL" (printf "%s/v1/snapshots/%s/%s" .Values.discovery.operatorUrl .Release.Namespace (include "service-lib.fullname" (dict "root" . "name" "gateway")))
    "CARAVAN_REGISTRY_FILE" "/etc/caravan/routing/snapshot.json"
) -}}
{{- end -}}
{{- include "text.map" (mergeOverwrite $settings (deepCopy .Values.settings)) }}
{{- end }}

{{/* Behind a proxy that it doesn't know, the gateway takes all clients for one, and one of them uses up the tries and limits of all. */}}
{{- define "caravan.proxies" -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled -}}
{{- $gateway := (include "caravan.service" (dict "root" . "name" "gateway") | fromYaml).service -}}
{{- $proxies := get $gateway.env "GATEWAY_TRUSTED_PROXIES" | default (get .Values.settings "GATEWAY_TRUSTED_PROXIES") | default "" | toString -}}
{{- if not (trim $proxies) -}}
{{ fail "settings.GATEWAY_TRUSTED_PROXIES: expected the network of your ingress controller's pods, such as 10.244.0.0/16, since ingress or httpRoute is enabled; without it all clients are limited as one" }}
{{- else if regexMatch "/0+\\s*(,|$)" $proxies -}}
{{ fail (printf "settings.GATEWAY_TRUSTED_PROXIES: %s trusts everybody, and then a client names any address as its own; name the network of your ingress controller's pods" $proxies) }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The names of the services that are installed, comma-separated. */}}
{{- define "caravan.serving" -}}
{{- $names := list -}}
{{- range $name, $service := .Values.services -}}
{{- if (mergeOverwrite (deepCopy $.Values.defaults) ($service | default dict)).enabled }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{ join "," $names }}
{{- end }}

{{/* Every database of the installed services. */}}
{{- define "caravan.databases" -}}
{{- $databases := list -}}
{{- range $declaration := .Files.Get "files/services.yaml" | fromYaml }}{{ $databases = concat $databases $declaration.databases }}{{ end -}}
{{ toYaml (uniq $databases | sortAlpha) }}
{{- end }}
