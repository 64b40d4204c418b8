"""Metrics that others tell: by who tells them, each with its type and its labels beside those of its target."""

from typing import Literal

MetricType = Literal["counter", "gauge", "histogram"]

# A name, its type, its labels.
TABLE = {
    "the shop": """
        process_cpu_seconds_total counter
        process_resident_memory_bytes gauge
        process_start_time_seconds gauge
    """,
    "Prometheus": """
        up gauge
        scrape_duration_seconds gauge
        scrape_samples_scraped gauge
        ALERTS gauge alertname alertstate severity
        prometheus_tsdb_head_series gauge
        prometheus_tsdb_head_samples_appended_total counter type
        prometheus_rule_evaluation_failures_total counter rule_group
        prometheus_notifications_dropped_total counter
    """,
    "the recording rules": """
        slo:sli_error:ratio_rate5m gauge slo
        slo:sli_error:ratio_rate1h gauge slo
        slo:sli_error:ratio_rate6h gauge slo
        slo:objective:ratio gauge slo
        slo:error_budget_left:ratio30d gauge slo
    """,
    "the collector": """
        otelcol_receiver_accepted_spans_total counter receiver transport
        otelcol_receiver_accepted_spans counter receiver transport
        otelcol_receiver_refused_spans_total counter receiver transport
        otelcol_receiver_refused_spans counter receiver transport
        otelcol_receiver_accepted_log_records_total counter receiver transport
        otelcol_receiver_accepted_log_records counter receiver transport
        otelcol_receiver_refused_log_records_total counter receiver transport
        otelcol_receiver_refused_log_records counter receiver transport
        otelcol_exporter_sent_spans_total counter exporter
        otelcol_exporter_sent_spans counter exporter
        otelcol_exporter_sent_log_records_total counter exporter
        otelcol_exporter_sent_log_records counter exporter
        otelcol_exporter_send_failed_spans_total counter exporter
        otelcol_exporter_send_failed_spans counter exporter
        otelcol_exporter_send_failed_log_records_total counter exporter
        otelcol_exporter_send_failed_log_records counter exporter
        otelcol_exporter_queue_size gauge exporter data_type
        otelcol_exporter_queue_capacity gauge exporter data_type
    """,
    "Loki": """
        loki_distributor_lines_received_total counter tenant
        loki_discarded_samples_total counter tenant reason
    """,
    "RabbitMQ": """
        rabbitmq_connections gauge
        rabbitmq_channels gauge
        rabbitmq_queues gauge
        rabbitmq_queue_messages_ready gauge
        rabbitmq_queue_messages_unacked gauge
        rabbitmq_process_resident_memory_bytes gauge
        rabbitmq_resident_memory_limit_bytes gauge
        rabbitmq_disk_space_available_bytes gauge
        rabbitmq_disk_space_available_limit_bytes gauge
        rabbitmq_process_open_fds gauge
        rabbitmq_process_max_fds gauge
        rabbitmq_alarms_memory_used_watermark gauge
        rabbitmq_alarms_free_disk_space_watermark gauge
        rabbitmq_global_messages_received_total counter protocol
        rabbitmq_global_messages_confirmed_total counter protocol
        rabbitmq_global_messages_acknowledged_total counter protocol queue_type
        rabbitmq_global_messages_redelivered_total counter protocol queue_type
        rabbitmq_global_messages_unroutable_returned_total counter protocol
        rabbitmq_global_messages_unroutable_dropped_total counter protocol
        rabbitmq_detailed_queue_messages_ready gauge vhost queue
        rabbitmq_detailed_queue_messages_unacked gauge vhost queue
        rabbitmq_detailed_queue_consumers gauge vhost queue
    """,
    "Kafka's exporter": """
        kafka_brokers gauge
        kafka_topic_partitions gauge topic
        kafka_topic_partition_current_offset gauge topic partition
        kafka_topic_partition_in_sync_replica gauge topic partition
        kafka_topic_partition_replicas gauge topic partition
        kafka_topic_partition_leader_is_preferred gauge topic partition
        kafka_topic_partition_under_replicated_partition gauge topic partition
        kafka_consumergroup_lag gauge consumergroup topic partition
        kafka_consumergroup_members gauge consumergroup
    """,
    "Postgres's exporter": """
        pg_up gauge
        pg_settings_max_connections gauge
        pg_stat_activity_count gauge datname state
        pg_stat_database_xact_commit counter datname
        pg_stat_database_xact_rollback counter datname
        pg_stat_database_blks_hit counter datname
        pg_stat_database_blks_read counter datname
        pg_stat_database_deadlocks counter datname
        pg_stat_user_tables_n_dead_tup gauge datname schemaname relname
        pg_stat_user_tables_n_live_tup gauge datname schemaname relname
        pg_database_size_bytes gauge datname
        pg_replication_slot_slot_is_active gauge slot_name
        pg_replication_slots_pg_wal_lsn_diff gauge slot_name
    """,
    "Redis's exporter": """
        redis_connected_clients gauge
        redis_commands_processed_total counter
        redis_commands_duration_seconds_total counter cmd
        redis_commands_total counter cmd
        redis_keyspace_hits_total counter
        redis_keyspace_misses_total counter
        redis_rejected_connections_total counter
    """,
    "the kubelet": """
        container_cpu_usage_seconds_total counter namespace pod container
        container_memory_working_set_bytes gauge namespace pod container
        container_cpu_cfs_periods_total counter namespace pod container
        container_cpu_cfs_throttled_periods_total counter namespace pod container
    """,
    "a storage driver that measures its volumes": """
        kubelet_volume_stats_available_bytes gauge namespace persistentvolumeclaim
        kubelet_volume_stats_capacity_bytes gauge namespace persistentvolumeclaim
    """,
    "kube-state-metrics": """
        kube_deployment_spec_replicas gauge namespace deployment
        kube_deployment_status_replicas_available gauge namespace deployment
        kube_pod_container_resource_requests gauge namespace pod container resource
        kube_pod_container_resource_limits gauge namespace pod container resource
        kube_pod_container_status_restarts_total counter namespace pod container
        kube_pod_status_phase gauge namespace pod phase
        kube_pod_status_ready gauge namespace pod condition
        kube_node_status_allocatable gauge node resource
        kube_horizontalpodautoscaler_status_current_replicas gauge namespace horizontalpodautoscaler
        kube_horizontalpodautoscaler_spec_max_replicas gauge namespace horizontalpodautoscaler
    """,
}
