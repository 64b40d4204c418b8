{{/* (dict "root" $ "backends" (list "kafka" "rabbitmq")): the sources of the files of CARAVAN_CERTIFICATES, a folder for each of these backends; empty when none has any. */}}
{{- define "caravan.certificateSources" -}}
{{- range $backend := .backends }}
{{- $tls := get $.root.Values.backends.tls $backend }}
{{- $folder := eq $backend "jobsRedis" | ternary "jobs-redis" $backend }}
{{- with $tls.caSecretRef }}
- secret:
    name: {{ toJson .name }}
    items:
      - {key: ca.crt, path: {{ printf "%s/ca.crt" $folder | toJson }}}
{{- end }}
{{- with $tls.clientSecretRef }}
- secret:
    name: {{ toJson .name }}
    items:
      - {key: tls.crt, path: {{ printf "%s/tls.crt" $folder | toJson }}}
      - {key: tls.key, path: {{ printf "%s/tls.key" $folder | toJson }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "caravan.certificateVolume" -}}
- name: certificates
  projected:
    defaultMode: 0440
    sources:
      {{- include "caravan.certificateSources" . | nindent 6 }}
{{- end }}

{{- define "caravan.certificateMount" -}}
- {name: certificates, mountPath: /etc/caravan/certificates, readOnly: true}
{{- end }}

{{/* (dict "root" $ "backends" list): the settings for Kafka's protocol, where it is one of them, and for the certificates. */}}
{{- define "caravan.tlsSettings" -}}
{{- $backends := .root.Values.backends -}}
{{- $settings := dict -}}
{{- if include "caravan.certificateSources" . }}{{ $_ := set $settings "CARAVAN_CERTIFICATES" "/etc/caravan/certificates" }}{{ end -}}
{{- if and (has "kafka" .backends) (ne $backends.kafkaProtocol "PLAINTEXT") -}}
{{- $_ := set $settings "CARAVAN_KAFKA_PROTOCOL" $backends.kafkaProtocol -}}
{{- if $backends.kafkaSaslMechanism }}{{ $_ := set $settings "CARAVAN_KAFKA_SASL_MECHANISM" $backends.kafkaSaslMechanism }}{{ end -}}
{{- end -}}
{{ toYaml $settings }}
{{- end }}

{{/* The protocol, the mechanism and the keys of the login go together; the process would say it too, but only when it starts. */}}
{{- define "caravan.checkKafkaLogin" -}}
{{- $backends := .Values.backends -}}
{{- $hasLogin := hasPrefix "SASL_" $backends.kafkaProtocol -}}
{{- if ne $hasLogin (ne $backends.kafkaSaslMechanism "") -}}
{{ fail "backends.kafkaSaslMechanism goes with backends.kafkaProtocol SASL_SSL or SASL_PLAINTEXT" }}
{{- end -}}
{{- $keys := concat $backends.keys $backends.ownKeys -}}
{{- range $key := list "CARAVAN_KAFKA_USERNAME" "CARAVAN_KAFKA_PASSWORD" -}}
{{- if and $hasLogin (not (has $key $keys)) -}}
{{ fail (printf "backends.keys or backends.ownKeys must have %s, since backends.kafkaProtocol is %s" $key $backends.kafkaProtocol) }}
{{- end -}}
{{- end -}}
{{- if and $backends.tls.kafka (not (hasSuffix "SSL" $backends.kafkaProtocol)) -}}
{{ fail "backends.tls.kafka goes with backends.kafkaProtocol SSL or SASL_SSL" }}
{{- end -}}
{{- end }}

{{/* How KEDA connects to the brokers as a service: its login and the certificates. */}}
{{- define "caravan.scalingSecurity" -}}
{{- $backends := .root.Values.backends -}}
{{- $kafka := include "caravan.kedaCertificates" $backends.tls.kafka | fromYamlArray -}}
{{- $metadata := dict -}}
{{- if hasSuffix "SSL" $backends.kafkaProtocol }}{{ $_ := set $metadata "tls" "enable" }}{{ end -}}
{{- if hasPrefix "SASL_" $backends.kafkaProtocol -}}
{{- $_ := set $metadata "sasl" (eq $backends.kafkaSaslMechanism "PLAIN" | ternary "plaintext" ($backends.kafkaSaslMechanism | lower | replace "-sha-" "_sha")) -}}
{{- range $parameter, $key := dict "username" "CARAVAN_KAFKA_USERNAME" "password" "CARAVAN_KAFKA_PASSWORD" -}}
{{- $kafka = append $kafka (dict "parameter" $parameter "name" $backends.secret "key" (include "caravan.backendKey" (merge (dict "key" $key) $))) -}}
{{- end -}}
{{- end -}}
{{- $rabbitmq := list (dict "parameter" "host" "name" $backends.secret "key" (include "caravan.backendKey" (merge (dict "key" "CARAVAN_RABBITMQ_URL") .))) -}}
{{- $settings := list -}}
{{- if $backends.tls.rabbitmq -}}
{{- $rabbitmq = concat $rabbitmq (include "caravan.kedaCertificates" $backends.tls.rabbitmq | fromYamlArray) -}}
{{- $settings = list (dict "parameter" "tls" "name" (include "service-lib.fullname" (dict "root" .root "name" "keda")) "key" "tls") -}}
{{- end -}}
{{ toYaml (dict "kafkaMetadata" $metadata "kafkaSecrets" $kafka "rabbitmqSecrets" $rabbitmq "rabbitmqSettings" $settings) }}
{{- end }}

{{/* The key of the backends' secret under which a service finds its own, or everybody's. */}}
{{- define "caravan.backendKey" -}}
{{ ternary (printf "%s.%s" .name .key) .key (has .key .service.ownKeys) }}
{{- end }}

{{- define "caravan.kedaCertificates" -}}
{{- $parameters := list -}}
{{- with .caSecretRef }}{{ $parameters = append $parameters (dict "parameter" "ca" "name" .name "key" "ca.crt") }}{{ end -}}
{{- with .clientSecretRef -}}
{{- $parameters = append $parameters (dict "parameter" "cert" "name" .name "key" "tls.crt") -}}
{{- $parameters = append $parameters (dict "parameter" "key" "name" .name "key" "tls.key") -}}
{{- end -}}
{{ toYaml $parameters }}
{{- end }}
