"""The mails of a shop without a mail server: a file for each letter, whole or not there, and one however often the
letter comes.
"""

import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.notifications.providers.files import FolderEmailProvider
from services.notifications.rendering import RenderedMessage

LETTER = RenderedMessage(
    "1" * 32,
    "welcome",
    "x",
    "ada@example.com",
    "Hello",
    "text\n" * 1000,
    "<p>html</p>",
    datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize("kept", [0, 100, None], ids=["empty", "cut off", "whole"])
async def test_a_letter_that_comes_again_replaces_what_was_written_of_it(tmp_path: Path, kept: int | None) -> None:
    provider = FolderEmailProvider(tmp_path / "mail", "Caravan <shop@example.com>")
    await provider.send([LETTER])
    [mail] = (tmp_path / "mail").iterdir()
    whole = mail.read_bytes()
    mail.write_bytes(whole[:kept])
    assert [verdict.status for verdict in await provider.send([LETTER])] == ["sent"]
    assert list((tmp_path / "mail").iterdir()) == [mail]
    assert mail.read_bytes() == whole


async def test_nothing_is_left_of_a_mail_that_the_disk_does_not_take(tmp_path: Path) -> None:
    provider = FolderEmailProvider(tmp_path / "mail", "Caravan <shop@example.com>")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert [verdict.status for verdict in await provider.send([LETTER])] == ["down"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "mail").iterdir()) == []
