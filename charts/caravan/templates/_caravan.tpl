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
) -}}
{{- end -}}
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

{{- define "caravan.environment" -}}
{{ include "caravan.settings" . }}
{{- end }}

{{/* The names of the services that are installed, comma-separated. */}}
{{- define "caravan.serving" -}}
{{- $names := list -}}
{{- range $name, $service := .Values.services -}}
{{- if (mergeOverwrite (deepCopy $.Values.defaults) ($service | default dict)).enabled }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{ join "," $names }}
{{- end }}

{{/* (dict "root" $ "name" "orders"): what the library's templates take. Facts come from the declarations in Python, see files/services.yaml. */}}
{{- define "caravan.service" -}}
{{- $all := .root.Files.Get "files/services.yaml" | fromYaml -}}
{{- $facts := get $all .name | default (dict "databases" list "calls" list "topics" list "queues" list) -}}
{{- $given := get .root.Values.services .name | default dict -}}
{{- if not (or (hasKey $all .name) $given.image $given.args) }}
{{ fail (printf "services.%s: no such service in this image; there are %s. A service of your own needs an image or args" .name (keys $all | sortAlpha | join ", ")) }}
{{- end -}}
{{- $service := mergeOverwrite (deepCopy .root.Values.defaults) $given -}}
{{- if not $service.backendSecrets }}{{ $_ := set $service "backendSecrets" .root.Values.backends.keys }}{{ end -}}
{{- $own := list -}}
{{- range .root.Values.backends.ownKeys }}{{ if not (has . $service.backendSecrets) }}{{ $own = append $own . }}{{ end }}{{ end -}}
{{- $_ := set $service "ownKeys" $own -}}
{{- $serving := splitList "," (include "caravan.serving" .root) -}}
{{- $callers := list -}}
{{- range $other, $its := $all }}{{ if and (has $.name $its.calls) (has $other $serving) }}{{ $callers = append $callers $other }}{{ end }}{{ end -}}
{{- if $service.public }}{{ $callers = concat $callers (list "seed" "test") }}{{ end -}}
{{- $calls := list -}}
{{- range $facts.calls }}{{ if has . $serving }}{{ $calls = append $calls . }}{{ end }}{{ end -}}
{{ toYaml (dict "service" $service "facts" (dict "databases" $facts.databases "topics" $facts.topics "queues" $facts.queues "public" $facts.public "calls" $calls "callers" $callers)) }}
{{- end }}

{{/* Every database of the installed services. */}}
{{- define "caravan.databases" -}}
{{- $databases := list -}}
{{- range $facts := .Files.Get "files/services.yaml" | fromYaml }}{{ $databases = concat $databases $facts.databases }}{{ end -}}
{{ toYaml (uniq $databases | sortAlpha) }}
{{- end }}

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
      {{- include "service-lib.podSecurity" . | nindent 6 }}
{{- end }}

{{/* The container of a Job: its own secrets, settings in the environment (a ConfigMap comes only after a pre-install hook). */}}
{{- define "caravan.jobContainer" -}}
containers:
  - name: {{ toJson .name }}
    image: {{ include "service-lib.image" . }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ toJson .args }}
    {{- include "service-lib.containerSecurity" . | nindent 4 }}
    resources:
      requests: {cpu: 50m, memory: 160Mi}
      limits: {cpu: "1", memory: 384Mi}
    {{- with .environment }}
    env: {{- include "service-lib.environment" . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: secrets, mountPath: /run/secrets, readOnly: true}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- include "service-lib.secrets" . | nindent 2 }}
{{- end }}
