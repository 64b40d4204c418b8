{{/* Every template takes one dictionary. Of the chart that uses the library it reads `root`'s Release and Chart, and no value:

root            $ of the chart
name            the service, such as "orders"; it runs in pods of its own
image           repository, tag (empty: the chart's version) or digest, pullPolicy
imagePullSecrets
development     the container's file system may be written, and a process that does not answer is left alone
command, args   of the container
settings        configMap: the name of the ConfigMap that is its environment; checksum: another one restarts the pods
environment     more of its environment, by name
drainVariable   the variable that tells the process service.drainSeconds
service         replicas, resources, autoscaling, keda, persistence, preStopSeconds, drainSeconds, podAnnotations, priorityClassName, nodeSelector, tolerations
secretSources   sources of the volume at /run/secrets, as text; none: no such volume
volumes, volumeMounts   more of them, as text
network         callers, calls: services of this release; ingressFrom: other peers of its port http; probesFrom: peers of its port probes, as text;
                dns: the egress rules of name resolution; egress: more egress rules, as text
scaling         topics (name, group, partitions), queues: what it reads; kafkaUrl; kafkaMetadata: more of a Kafka trigger's; kafkaSecrets, rabbitmqSecrets:
                parameters of KEDA from secrets (parameter, name, key); rabbitmqSettings: the same from ConfigMaps

A process listens on port 8080 (http) and answers /livez, /readyz and metrics on port 8081 (probes). */}}

{{/* Names have at most 63 letters, and a service's at most 15 (values.schema.json): 47 are left for the release. */}}
{{- define "service-lib.fullname" -}}
{{ include "text.name" (dict "release" .root.Release.Name "name" .name "length" 47) }}
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
{{- if .image.digest -}}
{{ printf "%s@%s" .image.repository .image.digest | toJson }}
{{- else -}}
{{ printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) | toJson }}
{{- end -}}
{{- end }}

{{/* A claim outlives its release: its name may be as long as a release's, and is never cut. */}}
{{- define "service-lib.claimName" -}}
{{ .root.Release.Name }}-{{ .name }}
{{- end }}
