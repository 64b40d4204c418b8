"""Background work of processing: measures how many sagas wait."""

from prometheus_client import Gauge

from services.processing import store, use_cases

OPEN_SAGAS = Gauge("caravan_saga_open", "Sagas that wait, by what for", ["step"])


async def measure_open_sagas(context: use_cases.ProcessingContext) -> bool:
    counts = await store.count_open_sagas(context.database)
    for step in ("reserving", "paying", "shipping", "undoing"):
        OPEN_SAGAS.labels(step).set(counts.get(step, 0))
    return False
