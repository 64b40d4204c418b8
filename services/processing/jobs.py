"""Background work of processing: measures how many sagas wait."""

from services.processing import store, use_cases
from services.processing.metrics import OLDEST_SAGA, OPEN_SAGAS


async def measure_open_sagas(context: use_cases.ProcessingContext) -> bool:
    measured = await store.measure_open_sagas(context.database, context.clock())
    for step in ("reserving", "paying", "shipping", "undoing"):
        count, oldest_seconds = measured.get(step, (0, 0.0))
        OPEN_SAGAS.labels(step).set(count)
        OLDEST_SAGA.labels(step).set(oldest_seconds)
    return False
