"""How the shop is doing: the map of services with what flows between them, channels, breakers, caches, processes."""

from typing import Any

from services.gateway.console.listing import build_url
from services.gateway.console.page import PageRequest, View
from services.gateway.console.service_map import draw_map

PATH = "/console/system"
CHANNEL_CHOICES = {"busy": "moving or waiting", "waiting": "waiting", "all": "all"}


async def load_system(request: PageRequest) -> View:
    system = await request.api.get("/v1/system")
    choice = request.query.get("channels", "")
    choice = choice if choice in CHANNEL_CHOICES else "busy"
    channels = [build_channel(channel) for channel in system["channels"]]
    states = [service["state"] for service in system["services"]]
    return {
        "system": system,
        "map": draw_map(system["services"], system["channels"]),
        "services": system["services"],
        "channels": [channel for channel in channels if is_shown(channel, choice)],
        "channel_count": len(channels),
        "choice": choice,
        "choices": [(name, title, build_url(PATH, channels=name)) for name, title in CHANNEL_CHOICES.items()],
        "breakers": [breaker for breaker in system["breakers"] if breaker["state"] != "closed" or breaker["cause"]],
        "breaker_count": len(system["breakers"]),
        "processes": build_processes(system["services"]),
        "state_counts": {state: states.count(state) for state in ("up", "degraded", "down")},
        "failed_jobs": sum(queue["failed"] for queue in system["job_queues"]),
        "waiting_jobs": sum(queue["waiting"] + queue["active"] for queue in system["job_queues"]),
        "rate": format_rate,
    }


def build_channel(channel: dict[str, Any]) -> dict[str, Any]:
    """With the sums over its readers."""
    subscriptions = channel["subscriptions"]
    sums = {
        name: sum(subscription[name]["total"] for subscription in subscriptions)
        for name in ("handled", "duplicates", "retries", "dead_letters")
    }
    waiting = sum(subscription["waiting"] or 0 for subscription in subscriptions)
    return {**channel, "sums": sums, "waiting": waiting}


def is_shown(channel: dict[str, Any], choice: str) -> bool:
    moves = channel["published"]["total"] or channel["sums"]["handled"] or channel["sums"]["dead_letters"]
    return bool(choice == "all" or channel["waiting"] or (choice == "busy" and moves))


def build_processes(services: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each process once, with the services that run in it."""
    processes: dict[str, dict[str, Any]] = {}
    for service in services:
        for instance in service["instances"]:
            process = processes.setdefault(instance["id"], {**instance, "services": []})
            process["services"].append(service["name"])
    return [
        {**process, "uptime": format_uptime(process["uptime_seconds"])}
        for process in sorted(processes.values(), key=lambda process: process["id"])
    ]


def format_rate(value: float | None) -> str:
    """So many a second."""
    if value is None:
        return "…"
    if value < 0.05:
        return "0"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def format_uptime(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"
