{{/* Prometheus' configuration. Of a target's labels `job` says which component it is; there is none called `service`, which the metrics have themselves. */}}
{{- define "observability.prometheus" -}}
global:
  scrape_interval: {{ int64 .Values.prometheus.scrapeSeconds }}s
  evaluation_interval: {{ int64 .Values.prometheus.scrapeSeconds }}s
  scrape_timeout: {{ min 10 (int64 .Values.prometheus.scrapeSeconds) }}s
  {{- with .Values.prometheus.externalLabels }}
  external_labels: {{- include "text.map" . | indent 4 }}
  {{- end }}
storage:
  exemplars: {max_exemplars: 100000}
rule_files: [/etc/rules/*.yaml]
alerting:
  alertmanagers:
    - static_configs:
        - targets: {{ include "observability.alertmanagers" . }}
scrape_configs:
  - job_name: shop
    kubernetes_sd_configs: &namespaces
      - role: pod
        namespaces: {names: {{ toJson .Values.namespaces }}}
    relabel_configs: {{- include "observability.relabelings" (dict "keep" (include "observability.shopPods" . | fromYamlArray)) | nindent 6 }}
  - job_name: rabbitmq
    kubernetes_sd_configs: *namespaces
    relabel_configs: {{- include "observability.relabelings" (dict "keep" (include "observability.rabbitmqPods" . | fromYamlArray)) | nindent 6 }}
  # Of each queue, which /metrics only tells in sums.
  - job_name: rabbitmq-queues
    metrics_path: /metrics/detailed
    params: {{- include "observability.queueFamilies" . | nindent 6 }}
    kubernetes_sd_configs: *namespaces
    relabel_configs: {{- include "observability.relabelings" (dict "keep" (include "observability.rabbitmqPods" . | fromYamlArray) "job" "rabbitmq-queues") | nindent 6 }}
  {{- range $name, $port := include "observability.ownTargets" . | fromYaml }}
  - job_name: {{ $name }}
    static_configs:
      - targets: [{{ printf "%s:%d" (include "observability.fullname" (dict "root" $ "name" (eq $name "spans" | ternary "collector" $name))) (int $port) | quote }}]
        labels: {namespace: {{ toJson $.Release.Namespace }}}
  {{- end }}
  {{- if .Values.kubelet.enabled }}
  {{- range $job, $path := dict "kubelet" "/metrics" "cadvisor" "/metrics/cadvisor" }}
  - job_name: {{ $job }}
    scheme: https
    metrics_path: {{ $path }}
    authorization: {credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token}
    tls_config:
      ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
      insecure_skip_verify: {{ $.Values.kubelet.insecureSkipVerify }}
    kubernetes_sd_configs: [{role: node}]
    relabel_configs:
      - {source_labels: [__meta_kubernetes_node_name], target_label: node}
    # A kubelet tells of the whole node; this is of what runs in these namespaces.
    metric_relabel_configs:
      - {source_labels: [__name__, namespace], regex: {{ printf "(kubelet_volume_stats_.*|container_(cpu|memory|network|fs)_.*);(%s)" (join "|" (append $.Values.namespaces $.Release.Namespace)) | quote }}, action: keep}
  {{- end }}
  {{- end }}
{{- end }}

{{/* Labels of pods, by the meta label of the discovery, and what they must be. A port is kept by its name, so a pod that has several is read once. */}}
{{- define "observability.shopPods" -}}
- {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_part_of, __meta_kubernetes_pod_container_port_name], regex: "(caravan|caravan-operator);probes"}
{{- end }}

{{- define "observability.rabbitmqPods" -}}
- {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name, __meta_kubernetes_pod_container_port_name], regex: "rabbitmq;metrics"}
{{- end }}

{{- define "observability.queueFamilies" -}}
family: [queue_coarse_metrics, queue_consumer_count]
{{- end }}

{{/* (dict "keep" (list ...) "job" "..."): the labels of a target. `job` is the pod's component; the operator has none. */}}
{{- define "observability.relabelings" -}}
{{- range .keep -}}
- {{ merge (dict "action" "keep") . | toJson }}
{{ end -}}
- {source_labels: [__meta_kubernetes_pod_phase], regex: "Succeeded|Failed", action: drop}
{{- include "observability.targetLabels" . }}
- {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
- {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
{{- end }}

{{- define "observability.targetLabels" }}
{{- if .job }}
- {target_label: job, replacement: {{ .job }}}
{{- else }}
- {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_component], regex: "(.+)", target_label: job}
- {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_part_of], regex: caravan-operator, target_label: job, replacement: operator}
{{- end }}
{{- end }}

{{/* Parts of this chart that are on, by the port of their metrics. */}}
{{- define "observability.ownTargets" -}}
{{- $all := dict "prometheus" 9090 "alertmanager" 9093 "loki" 3100 "jaeger" 8888 "collector" 8888 "spans" 8889 "grafana" 3000 -}}
{{- range $name, $port := $all }}
{{- if (get $.Values (eq $name "spans" | ternary "collector" $name)).enabled }}
{{ $name }}: {{ $port }}
{{- end }}
{{- end }}
{{- range $name, $exporter := .Values.exporters }}
{{- if $exporter.enabled }}
{{ include "observability.exporterName" $name }}: {{ get (dict "postgres" 9187 "redis" 9121 "kafka" 9308 "kubernetes" 8080) $name }}
{{- end }}
{{- end }}
{{- end }}

{{- define "observability.exporterName" -}}
{{ printf "%s-exporter" . | replace "kubernetes-exporter" "kube-state" }}
{{- end }}

{{- define "observability.alertmanagers" -}}
{{- $own := .Values.alertmanager.enabled | ternary (list (printf "%s:9093" (include "observability.fullname" (dict "root" . "name" "alertmanager")))) list -}}
{{ concat $own .Values.prometheus.alertmanagers | toJson }}
{{- end }}
