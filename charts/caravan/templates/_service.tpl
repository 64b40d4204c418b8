{{/* (dict "root" $ "name" "orders"): what the library's templates take (service-lib/templates/_names.tpl), as YAML, but for `root` and `name`. What a service
     declares in Python comes from files/services.yaml. */}}
{{- define "caravan.service" -}}
{{- $values := .root.Values -}}
{{- $declarations := .root.Files.Get "files/services.yaml" | fromYaml -}}
{{- $declaration := get $declarations .name | default (dict "databases" list "calls" list "topics" list "queues" list) -}}
{{- $given := get $values.services .name | default dict -}}
{{- if not (or (hasKey $declarations .name) $given.image $given.args) }}
{{ fail (printf "services.%s: no such service in this image; there are %s. A service of your own needs an image or args" .name (keys $declarations | sortAlpha | join ", ")) }}
{{- end -}}
{{- $service := mergeOverwrite (deepCopy $values.defaults) $given -}}
{{- if not $service.backendSecrets }}{{ $_ := set $service "backendSecrets" $values.backends.keys }}{{ end -}}
{{- $registry := and (eq .name "gateway") $values.graphqlRegistry.configMap -}}
{{- if $registry }}{{ $_ := set $service.env "GATEWAY_GRAPHQL_REGISTRY" (printf "/etc/caravan/graphql/%s" $values.graphqlRegistry.key) }}{{ end -}}
{{- $ownKeys := list -}}
{{- range $values.backends.ownKeys }}{{ if not (has . $service.backendSecrets) }}{{ $ownKeys = append $ownKeys . }}{{ end }}{{ end -}}
{{- $_ := set $service "ownKeys" $ownKeys -}}
{{- $it := dict "root" .root "name" .name "service" $service "declaration" $declaration -}}
{{- $args := $service.args | default (list "run" .name) -}}
{{- $result := dict
    "service" $service
    "declaration" $declaration
    "image" (mergeOverwrite (deepCopy $values.image) ($service.image | default dict))
    "imagePullSecrets" $values.imagePullSecrets
    "development" $values.development
    "command" ($values.development | ternary (concat (list "reload" "caravan") $args) list)
    "args" ($values.development | ternary list $args)
    "settings" (dict
        "configMap" (include "service-lib.fullname" (dict "root" .root "name" "settings"))
        "checksum" (include "caravan.settings" .root | sha256sum))
    "environment" $service.env
    "drainVariable" "CARAVAN_DRAIN_SECONDS"
    "secretSources" (include "caravan.secretSources" $it)
    "network" (include "caravan.network" $it | fromYaml)
    "scaling" (merge (dict "topics" $declaration.topics "queues" $declaration.queues "kafkaUrl" $values.backends.kafkaUrl)
        (include "caravan.scalingSecurity" $it | fromYaml))
-}}
{{- $volumes := list -}}
{{- $mounts := list -}}
{{- if eq $values.discovery.by "operator" -}}
{{- $volumes = append $volumes (include "caravan.routingVolume" .root) -}}
{{- $mounts = append $mounts "- {name: routing, mountPath: /etc/caravan/routing, readOnly: true}" -}}
{{- end -}}
{{- $tls := dict "root" .root "backends" (keys $values.backends.tls | sortAlpha) -}}
{{- if and (not $values.backends.embedded) (include "caravan.certificateSources" $tls) -}}
{{- $volumes = append $volumes (include "caravan.certificateVolume" $tls) -}}
{{- $mounts = append $mounts (include "caravan.certificateMount" .) -}}
{{- end -}}
{{- if $registry -}}
{{- $volumes = append $volumes (printf "- {name: graphql-registry, configMap: {name: %s}}" (toJson $registry)) -}}
{{- $mounts = append $mounts "- {name: graphql-registry, mountPath: /etc/caravan/graphql, readOnly: true}" -}}
{{- end -}}
{{- $result = merge $result (dict "volumes" (join "\n" $volumes) "volumeMounts" (join "\n" $mounts)) -}}
{{ toYaml $result }}
{{- end }}

{{/* Who calls it and whom it calls, of the services that are installed; and the rules that all of them have. */}}
{{- define "caravan.network" -}}
{{- $installed := splitList "," (include "caravan.serving" .root) -}}
{{- $callers := list -}}
{{- range $other, $declaration := .root.Files.Get "files/services.yaml" | fromYaml -}}
{{- if and (has $.name $declaration.calls) (has $other $installed) }}{{ $callers = append $callers $other }}{{ end -}}
{{- end -}}
{{- if .service.public }}{{ $callers = concat $callers (list "seed" "test") }}{{ end -}}
{{- $calls := list -}}
{{- range .declaration.calls }}{{ if has . $installed }}{{ $calls = append $calls . }}{{ end }}{{ end -}}
{{ toYaml (dict
    "callers" $callers
    "calls" $calls
    "ingressFrom" (.service.public | ternary .root.Values.networkPolicy.ingressFrom list)
    "dns" .root.Values.networkPolicy.dns
    "probesFrom" (include "caravan.probesFrom" .root)
    "egress" (include "caravan.egress" .root)) }}
{{- end }}

{{- define "caravan.probesFrom" -}}
{{- with .Values.networkPolicy.metricsFrom }}
{{- toYaml . }}
{{ end }}
{{- if eq .Values.discovery.by "operator" }}
{{- include "caravan.operatorPeer" . }}
{{- end }}
{{- end }}

{{- define "caravan.egress" -}}
{{- if eq .Values.discovery.by "operator" }}
{{- with .Values.networkPolicy.operator }}
{{- toYaml . }}
{{- else -}}
- ports: [{port: 8081}]
  to:
    {{- include "caravan.operatorPeer" . | nindent 4 }}
{{- end }}
{{ end }}
{{- if not .Values.backends.embedded }}
{{- toYaml .Values.networkPolicy.backends }}
{{ end }}
{{- with .Values.telemetry.otlpEndpoint }}
{{- with $.Values.networkPolicy.collector }}
{{- toYaml . }}
{{- else -}}
- ports: [{port: {{ (urlParse .).host | splitList ":" | last | atoi }}}]
  to:
    {{- include "caravan.peerAt" (dict "root" $ "url" . "part" "observability") | nindent 4 }}
{{- end }}
{{ end }}
{{- with .Values.networkPolicy.extraEgress }}
{{- toYaml . }}
{{ end }}
{{- end }}

{{- define "caravan.routingVolume" -}}
# What the process starts from while the operator is unavailable.
- name: routing
  configMap: {name: caravan-routing-{{ include "service-lib.fullname" (dict "root" . "name" "gateway") }}, optional: true}
{{- end }}
