"""Mails and short messages in the data folder are their owner's alone: they hold addresses, orders and links."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.notifications.providers.files import FolderEmailProvider, SmsFileProvider
from services.notifications.rendering import RenderedMessage

LETTER = RenderedMessage(
    "1" * 32, "welcome", "x", "ada@example.com", "Hello", "text\n", "<p>html</p>", datetime(2026, 1, 1, tzinfo=UTC)
)


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "left readable by an earlier version"])
async def test_nobody_else_on_the_machine_reads_what_is_sent(tmp_path: Path, earlier: bool) -> None:
    data, before = tmp_path / "data", os.umask(0)
    try:
        if earlier:
            (data / "mail").mkdir(mode=0o755, parents=True)
            data.chmod(0o700)
            (data / "sms.jsonl").write_text("")
        await FolderEmailProvider(data / "mail", "Caravan <shop@example.com>").send([LETTER])
        await SmsFileProvider(data / "sms.jsonl").send([LETTER])
    finally:
        os.umask(before)
    found = list(data.rglob("*"))
    assert len(found) == 3
    assert (data / "sms.jsonl").read_text()
    assert {
        path.name: oct(path.stat().st_mode & 0o777)
        for path in (data, *found)
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    } == {}
