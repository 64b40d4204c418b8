"""The script of docs/how-to/mails.md to which a mail server pipes delivery reports, run as it stands there."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caravan.clock import new_id
from tests.services.gateway.stand_ins import listening
from tests.services.notifications.conftest import BOUNCE_SECRET, Carrier
from tests.services.notifications.test_delivery_reports import send_mail, write_report
from tests.services.notifications.test_sending import reached
from tests.support.shop import Shop

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "mails.md"
SETTINGS = "/etc/caravan-bounces"
ENVELOPE = b"From MAILER-DAEMON  Mon Nov 30 10:00:00 2026\nX-Original-To: no-reply@shop.example\n"
"""What Postfix writes before a mail that it pipes."""
TRY_AGAIN = 75
pytestmark = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")), reason="no curl or no openssl on this machine"
)


@pytest.fixture(scope="module")
async def url(shop: Shop) -> AsyncIterator[str]:
    async with listening(shop.process.app) as address:
        yield address


async def run_script(folder: Path, url: str, mail: bytes, secret: str = BOUNCE_SECRET) -> int:
    """Its exit status, which tells a mail server whether to try again."""
    (folder / "settings").write_text(f'NOTIFICATIONS_BOUNCE_SECRET="{secret}"\nSHOP={url}\n')
    found = re.search(r"^```sh\n(#!/bin/sh\n.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found and SETTINGS in found[1]
    script = folder / "report-delivery"
    script.write_text(found[1].replace(SETTINGS, str(folder / "settings")))
    process = await asyncio.create_subprocess_exec("/bin/sh", str(script), stdin=asyncio.subprocess.PIPE)
    await process.communicate(mail)
    assert process.returncode is not None
    return process.returncode


async def test_a_report_that_is_piped_fails_the_mail(shop: Shop, carrier: Carrier, url: str, tmp_path: Path) -> None:
    address = f"{new_id()}@example.com"
    about, message_id = await send_mail(shop, address)
    assert await run_script(tmp_path, url, ENVELOPE + write_report(address, message_id)) == 0
    failed = await reached(shop, about, state="failed")
    assert failed["reason"] == "came back: 5.1.1 550 5.1.1 no such user"


async def test_mail_that_is_no_report_is_not_tried_again(url: str, tmp_path: Path) -> None:
    assert await run_script(tmp_path, url, ENVELOPE + b"Subject: I am away\n\nUntil Monday.\n") == 0


async def test_while_the_shop_does_not_take_a_report_the_mail_server_keeps_it(url: str, tmp_path: Path) -> None:
    report = write_report("ada@example.com", "unknown@caravan.local")
    assert await run_script(tmp_path, "http://127.0.0.1:1", report) == TRY_AGAIN
    assert await run_script(tmp_path, url, report, "another secret than the one of the shop") == TRY_AGAIN
