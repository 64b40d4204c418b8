"""`caravan failures` against a shop behind a port."""

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from caravan.runtime import Backends
from cli import app
from tests.services.gateway.stand_ins import listening
from tests.support.failing_service import DeadLetterAdmin, run_failing_service
from tests.support.new_cluster import SECRET


@pytest.fixture
async def admin(backends: Backends, tmp_path: Path) -> AsyncIterator[DeadLetterAdmin]:
    async with run_failing_service(backends, tmp_path, {}) as admin:
        yield admin


async def test_failures_are_listed_shown_and_redriven(admin: DeadLetterAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_SECRET", SECRET)
    monkeypatch.setattr("cli.api_client.ApiClient.get_token", _make_token_of(admin))

    async with listening(admin.shop.process.app) as url:
        run_caravan = partial(run_failures, url)
        assert "no failures" in (await run_caravan("list")).output
        admin.stamps.error_text = "no room for"
        await admin.send_messages("a", 1, 2)
        items = await admin.wait_for_failures(2)

        listed = await run_caravan("list", "--output", "json")
        assert listed.exit_code == 1, "something is in the list"
        cause = orjson.loads(listed.stdout)["causes"][0]["cause"]
        assert cause in (await run_caravan("list")).output
        assert "elsewhere" in (await run_caravan("list")).output
        assert orjson.loads((await run_caravan("show", items[0]["id"])).stdout)["key"] == "a"

        rehearsed = await run_caravan("redrive", "--cause", cause, "--dry-run")
        assert "would redrive 2" in rehearsed.output
        admin.stamps.error_text = None
        assert "redrive: 2 done" in (await run_caravan("redrive", "--cause", cause)).output
        await admin.wait_for_effects("a", 1, 2)

        nothing = await run_caravan("redrive")
        assert nothing.exit_code == 2, "which ones must be said"
        unknown = await run_caravan("show", "nothing")
        assert unknown.exit_code == 2


async def test_a_failure_that_is_not_listed_is_named_and_the_exit_status_says_so(
    admin: DeadLetterAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_SECRET", SECRET)
    monkeypatch.setattr("cli.api_client.ApiClient.get_token", _make_token_of(admin))

    async with listening(admin.shop.process.app) as url:
        run_caravan = partial(run_failures, url)
        admin.stamps.error_text = "no room for"
        await admin.send_messages("a", 1)
        (item,) = await admin.wait_for_failures(1)
        other, elsewhere = (
            base64.urlsafe_b64encode(orjson.dumps([service, "x", "y", "z"])).decode().rstrip("=")
            for service in ("stamps", "nowhere")
        )
        for verb in (("redrive",), ("discard", "--reason", "a test")):
            for dry in ((), ("--dry-run",)):
                found = await run_caravan(*verb, *dry, other, elsewhere)
                assert found.exit_code == 1 and other in found.output and elsewhere in found.output, (
                    verb,
                    dry,
                    found.output,
                )
                assert (await run_caravan(*verb, *dry, "no id at all")).exit_code == 2
                assert (await run_caravan(*verb, *dry, "--cause", "nobody")).exit_code == 1
                assert (await run_caravan(*verb, *dry, "--subscription", "nobody.at-all")).exit_code == 1
        both = await run_caravan("redrive", "--dry-run", item["id"], other)
        assert both.exit_code == 1
        assert other in both.output
        assert "would redrive 1" in both.output
        assert (await run_caravan("redrive", "--dry-run", item["id"], item["id"])).exit_code == 0


async def run_failures(url: str, *arguments: str) -> Result:
    """`caravan failures …` at the gateway of this URL."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["failures", *arguments, "--url", url])


def _make_token_of(admin: DeadLetterAdmin) -> object:
    async def token_of(_: object, __: str) -> str:
        return admin.shop.issuer.issue_token("admin")

    return token_of
