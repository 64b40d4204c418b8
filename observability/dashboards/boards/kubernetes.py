"""Use of the cluster: processors, memory, disks, and what stops pods."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SHOP, WINDOW, select

CONTAINER = f'{SHOP}, container!=""'
CPU = f"sum by (pod) (rate({select('container_cpu_usage_seconds_total', CONTAINER)}[{WINDOW}]))"
MEMORY = f"sum by (pod) ({select('container_memory_working_set_bytes', CONTAINER)})"


def limit(resource: str, what: str = "limits") -> str:
    scope = f'{SHOP}, resource="{resource}"'
    return f"sum by (pod) ({select(f'kube_pod_container_resource_{what}', scope)})"


AVAILABLE = f"sum({select('kube_deployment_status_replicas_available')})"
DESIRED = f"sum({select('kube_deployment_spec_replicas')})"

NOW = (
    Panel(
        "stat",
        "Replicas missing",
        "Replicas that Deployments want and that are not available.",
        "none",
        (Query(f"{DESIRED} - {AVAILABLE}", "missing"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "stat",
        "Restarts in the last hour",
        "Containers that ended and were started again.",
        "none",
        (Query(f"sum(increase({select('kube_pod_container_status_restarts_total')}[1h]))", "restarts"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "yellow"), Threshold(3, "red")),
        decimals=0,
    ),
    Panel(
        "stat",
        "Processors in use",
        "Processors that the chosen namespaces keep busy.",
        "none",
        (Query(f"sum(rate({select('container_cpu_usage_seconds_total', CONTAINER)}[{WINDOW}]))", "in use"),),
        width=6,
        height=4,
        decimals=2,
    ),
    Panel(
        "stat",
        "Memory in use",
        "Memory that the chosen namespaces hold.",
        "bytes",
        (Query(f"sum({select('container_memory_working_set_bytes', CONTAINER)})", "in use"),),
        width=6,
        height=4,
    ),
)

USE = (
    Panel(
        "lines",
        "Processors by pod",
        "Processors that each pod keeps busy.",
        "none",
        (Query(CPU, "{{pod}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Processors of the request",
        "Use as a share of what the pod asked for. Far above 100 % it lives on what others leave.",
        "percentunit",
        (Query(f"{CPU} / {limit('cpu', 'requests')}", "{{pod}}"),),
        thresholds=(Threshold(1, "yellow"),),
    ),
    Panel(
        "lines",
        "Throttled",
        "Share of periods in which a pod was stopped because it had used up its limit. It shows as event loop lag.",
        "percentunit",
        (
            Query(
                "sum by (pod) (rate("
                f"{select('container_cpu_cfs_throttled_periods_total', CONTAINER)}[{WINDOW}])) / "
                f"sum by (pod) (rate({select('container_cpu_cfs_periods_total', CONTAINER)}[{WINDOW}]))",
                "{{pod}}",
            ),
        ),
        thresholds=(Threshold(0.1, "yellow"), Threshold(0.25, "red")),
    ),
    Panel(
        "lines",
        "Memory by pod",
        "Memory that each pod holds. A line that only rises is a leak.",
        "bytes",
        (Query(MEMORY, "{{pod}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Memory of the limit",
        "At 100 % the container is killed.",
        "percentunit",
        (Query(f"{MEMORY} / {limit('memory')}", "{{pod}}"),),
        thresholds=(Threshold(0.8, "yellow"), Threshold(0.95, "red")),
        maximum=1,
    ),
    Panel(
        "lines",
        "Volumes",
        "Share of each volume that is full. A backend whose disk is full stops.",
        "percentunit",
        (
            Query(
                "1 - min by (persistentvolumeclaim) "
                f"({select('kubelet_volume_stats_available_bytes')}) / min by (persistentvolumeclaim) "
                f"({select('kubelet_volume_stats_capacity_bytes')})",
                "{{persistentvolumeclaim}}",
            ),
        ),
        thresholds=(Threshold(0.7, "yellow"), Threshold(0.85, "red")),
        maximum=1,
    ),
)

PODS = (
    Panel(
        "lines",
        "Replicas available",
        "Share of the wanted replicas of each Deployment that are available.",
        "percentunit",
        (
            Query(
                f"sum by (deployment) ({select('kube_deployment_status_replicas_available')})"
                f" / (sum by (deployment) ({select('kube_deployment_spec_replicas')}) > 0)",
                "{{deployment}}",
            ),
        ),
        thresholds=(Threshold(1, "green"),),
        maximum=1,
    ),
    Panel(
        "lines",
        "Replicas of the maximum",
        "How far each autoscaler has gone. At 100 % more load has nowhere to go.",
        "percentunit",
        (
            Query(
                "max by (horizontalpodautoscaler) "
                f"({select('kube_horizontalpodautoscaler_status_current_replicas')}) / "
                "max by (horizontalpodautoscaler) "
                f"({select('kube_horizontalpodautoscaler_spec_max_replicas')})",
                "{{horizontalpodautoscaler}}",
            ),
        ),
        thresholds=(Threshold(1, "red"),),
        maximum=1,
    ),
    Panel(
        "lines",
        "Restarts",
        "Restarts of each pod's containers in the last ten minutes. Exit code 137 is memory or a probe.",
        "none",
        (
            Query(
                f"sum by (pod) (increase({select('kube_pod_container_status_restarts_total')}[10m]))",
                "{{pod}}",
            ),
        ),
        thresholds=(Threshold(3, "red"),),
    ),
    Panel(
        "lines",
        "Pods by phase",
        "Pods that run, wait for a node, or have ended.",
        "none",
        (Query(f"sum by (phase) ({select('kube_pod_status_phase')})", "{{phase}}"),),
        stacked=True,
        width=12,
        height=6,
    ),
    Panel(
        "lines",
        "Pods not ready",
        "Pods that get no requests because they say that they are not ready.",
        "none",
        (
            Query(
                f"sum by (pod) ({select('kube_pod_status_ready', f'''{SHOP}, condition='false' ''')} > 0) or vector(0)",
                "{{pod}}",
            ),
        ),
        thresholds=(Threshold(1, "red"),),
        width=12,
        height=6,
    ),
)

BOARDS = (
    Board(
        "kubernetes",
        "Kubernetes use",
        "Processors, memory and disks of the pods, and what stops them.",
        (
            Row("Does everything run?", NOW),
            Row("What do pods use?", USE),
            Row("Do they come and stay?", PODS),
        ),
    ),
)
