"""The order processing service."""

from pathlib import Path

from caravan.service import OUTBOX_STATE, DatabaseDeclaration, PeriodicTask, Service
from services.processing import jobs, messages, timeline, use_cases
from services.processing.consumers import consume
from services.processing.settings import Settings
from services.processing.tables import BOOKS

service = Service(
    "processing",
    databases=(
        DatabaseDeclaration(
            "processing",
            Path(__file__).parent / "migrations",
            readers={"reconciliation": {**OUTBOX_STATE, **BOOKS}},
        ),
    ),
    consumers=consume,
    channels=messages.CHANNELS,
    settings=Settings,
    periodic_tasks=(
        PeriodicTask("resend-overdue", 2.0, use_cases.resend_overdue),
        PeriodicTask("measure-sagas", 10.0, jobs.measure_open_sagas),
    ),
    timeline=timeline.describe_saga,
)
