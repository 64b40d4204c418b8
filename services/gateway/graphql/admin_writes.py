"""The gateway's own writes, those of operators, as mutations; the rest of the table is in `writes.py`."""

from caravan.dead_letters.schemas import DiscardRequest, Selection
from services.gateway.admin.dead_letter_fanout import CombinedActionResult
from services.gateway.admin.job_admin import CleanRequest, CleanResult, JobView
from services.gateway.graphql.shapes import get_type
from services.gateway.graphql.writes import Write

ADMIN_WRITES: dict[str, Write] = {
    "redrive_failures": Write(
        "gateway",
        "POST /v1/failures/redrive",
        get_type(CombinedActionResult),
        "admin",
        "Give failures to their handlers again.",
        Selection,
    ),
    "discard_failures": Write(
        "gateway",
        "POST /v1/failures/discard",
        get_type(CombinedActionResult),
        "admin",
        "Remove failures for good.",
        DiscardRequest,
    ),
    "retry_job": Write(
        "gateway",
        "POST /v1/jobs/{job_id}/retry",
        get_type(JobView),
        "admin",
        "Give a failed job all its attempts again.",
        None,
        {"job_id": str},
    ),
    "promote_job": Write(
        "gateway",
        "POST /v1/jobs/{job_id}/promote",
        get_type(JobView),
        "admin",
        "Let a delayed job run now.",
        None,
        {"job_id": str},
    ),
    "remove_job": Write(
        "gateway", "DELETE /v1/jobs/{job_id}", None, "admin", "Take a job out of its queue.", None, {"job_id": str}
    ),
    "clean_jobs": Write(
        "gateway",
        "POST /v1/jobs/clean",
        get_type(CleanResult),
        "admin",
        "Remove the jobs of a queue that have been in a state for a while.",
        CleanRequest,
    ),
    "pause_queue": Write(
        "gateway",
        "POST /v1/jobs/queues/{queue}/pause",
        None,
        "admin",
        "Take no further job of a queue.",
        None,
        {"queue": str},
    ),
    "resume_queue": Write(
        "gateway",
        "POST /v1/jobs/queues/{queue}/resume",
        None,
        "admin",
        "Go on with a paused queue.",
        None,
        {"queue": str},
    ),
}
