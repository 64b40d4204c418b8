"""Campaigns: how far each is, one with its runs, stopping and resuming it, and a new one to all customers."""

from typing import Any

from caravan.clock import new_id
from services.gateway.console.api_client import fill_path
from services.gateway.console.listing import load_list
from services.gateway.console.page import ActionResult, PageRequest, View

PATH = "/console/campaigns"
PAGE_SIZE = 20


async def load_campaigns(request: PageRequest) -> View:
    view = await load_list(request, "/v1/campaigns", PATH, {}, PAGE_SIZE)
    campaigns = [{**campaign, "last": describe_run(campaign["runs"])} for campaign in view["items"]]
    return {**view, "items": campaigns, "new_key": str(new_id())}


async def load_campaign(request: PageRequest) -> View:
    campaign = await request.api.get(fill_path("/v1/campaigns/{campaign}", campaign=request.path["campaign"]))
    last = campaign["runs"][0] if campaign["runs"] else None
    return {
        "campaign": campaign,
        "segment": describe_segment(campaign["segment"]),
        "runs": [{**run, "done": compute_progress(run)} for run in campaign["runs"]],
        "can_stop": campaign["status"] in ("scheduled", "running"),
        "can_resume": campaign["status"] == "stopped"
        or bool(last and last["status"] == "missed" and not campaign["cron"]),
    }


def compute_progress(run: dict[str, Any]) -> int:
    """Percent of a run's recipients whose mail has gone its way, whatever became of it."""
    ended = run["sent"] + run["failed"] + run["suppressed"]
    return int(100 * min(ended, run["recipients"]) / run["recipients"]) if run["recipients"] else 100


def describe_run(runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The last one, which tells how far a campaign is."""
    return {**runs[0], "done": compute_progress(runs[0])} if runs else None


def describe_segment(segment: dict[str, Any]) -> list[str]:
    words = {
        "registered_after": "registered after {}",
        "registered_before": "registered before {}",
        "ordered_within_days": "ordered in the last {} days",
        "not_ordered_within_days": "ordered nothing in the last {} days",
    }
    return [text.format(segment[name]) for name, text in words.items() if segment.get(name) is not None]


async def create_campaign(request: PageRequest) -> ActionResult:
    """To all customers who want promotions. The form's key makes a second press the same campaign."""
    form = request.form
    body: dict[str, Any] = {name: form.get(name, "").strip() for name in ("name", "subject", "text")}
    body["text"] = body["text"].replace("\r\n", "\n")
    if send_at := form.get("send_at", ""):
        body["send_at"] = f"{send_at}:00Z" if len(send_at) == len("2026-11-30T09:00") else send_at
    if days := form.get("not_ordered_within_days", "").strip():
        body["segment"] = {"not_ordered_within_days": int(days) if days.isascii() and days.isdecimal() else days}
    body["with_recommendations"] = form.get("with_recommendations") == "yes"
    headers = {"idempotency-key": form.get("key") or str(new_id())}
    campaign = await request.api.post("/v1/campaigns", body, headers)
    return ActionResult(f"{PATH}/{campaign['id']}", "The campaign is written. Its mails go out at their time.")


async def stop_campaign(request: PageRequest) -> ActionResult:
    return await _change_campaign(request, "stop", "No more of it is sent until it is resumed.")


async def resume_campaign(request: PageRequest) -> ActionResult:
    return await _change_campaign(request, "resume", "It goes on where it was stopped: nobody gets it twice.")


async def _change_campaign(request: PageRequest, action: str, notice: str) -> ActionResult:
    path = fill_path("/v1/campaigns/{campaign}", campaign=request.path["campaign"])
    await request.api.post(f"{path}/{action}")
    return ActionResult(f"{PATH}/{request.path['campaign']}", notice)
