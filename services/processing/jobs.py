"""Background work beside the reminders: how many sagas wait."""

from prometheus_client import Gauge

from services.processing import store, use_cases

OPEN = Gauge("caravan_saga_open", "Sagas that wait, by what for", ["step"])


async def measure(context: use_cases.ProcessingContext) -> bool:
    waiting = await store.open_sagas(context.database)
    for step in ("reserving", "paying", "shipping", "undoing"):
        OPEN.labels(step).set(waiting.get(step, 0))
    return False
