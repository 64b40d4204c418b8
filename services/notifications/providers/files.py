"""Providers without a third party: mails and text messages as files, for a shop on a laptop, and the log."""

import asyncio
import errno
import os
from collections.abc import Sequence
from datetime import UTC
from email.utils import format_datetime
from pathlib import Path

import orjson

from caravan.telemetry import log
from services.notifications import mime
from services.notifications.providers.protocol import NOT_TRIED, SENT, SendResult
from services.notifications.rendering import RenderedMessage

SLICE_SIZE = 20
"""Messages written before the event loop gets its turn: about 2 ms."""


class FolderEmailProvider:
    """A file per mail, for a shop without a mail server. The name follows from the message, so one that comes again
    replaces itself.

    The files are written on the event loop, a slice at a time: 20 µs each; a rename would make it 35. A worker thread
    has to take the interpreter's lock back after every system call and was measured at 14 ms per file beside a busy
    loop. Nothing is synced to the disk: after a power cut, mails of the last seconds may be missing.
    """

    def __init__(self, folder: Path, sender: str) -> None:
        self.folder = folder
        self.sender = sender

    async def send(self, messages: Sequence[RenderedMessage]) -> list[SendResult]:
        results: list[SendResult] = []
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # parents on the way get no mode
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if self.folder.stat().st_mode & 0o077:
                self.folder.chmod(0o700)  # made by an earlier version: other users of the machine could list it
            for start in range(0, len(messages), SLICE_SIZE):
                for message in messages[start : start + SLICE_SIZE]:
                    self._write_mail(message)
                    results.append(SENT)
                await asyncio.sleep(0)
        except OSError as error:
            results.append(SendResult("down", f"{self.folder}: {error.strerror}"))
        return results + [NOT_TRIED] * (len(messages) - len(results))

    def _write_mail(self, message: RenderedMessage) -> None:
        created_at = message.created_at.astimezone(UTC)
        name = f"{created_at:%Y%m%dT%H%M%S.%fZ}-{message.kind}-{message.key}.eml"
        content = mime.compose_mail(message, self.sender, format_datetime(created_at))
        final = f"{self.folder}/{name}"
        try:
            _write(final, os.O_EXCL, content)
        except (
            FileExistsError
        ):  # it comes again, and may have been cut off by the end of a process: replaced as a whole
            partial = f"{self.folder}/.{name}.part"
            _write(partial, os.O_TRUNC, content)
            os.rename(partial, final)


def _write(path: str, how: int, content: bytes) -> None:
    """A file with all of the content; what can't be written whole is removed."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    try:
        if os.write(file, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(file)


class SmsFileProvider:
    """Stands in for an SMS gateway: a line of JSON per message in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def send(self, messages: Sequence[RenderedMessage]) -> list[SendResult]:
        lines = b"".join(
            orjson.dumps({"key": message.key, "to": message.recipient, "text": message.subject}) + b"\n"
            for message in messages
        )
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.fchmod(file, 0o600)  # an earlier version made it for everybody
                os.write(file, lines)
            finally:
                os.close(file)
        except OSError as error:
            return [SendResult("down", f"{self.path}: {error.strerror}")] * len(messages)
        return [SENT] * len(messages)


class LogProvider:
    """Messages that stay in the house: the user finds them at `/v1/notifications`, operations in the log, one line per
    batch.
    """

    async def send(self, messages: Sequence[RenderedMessage]) -> list[SendResult]:
        log.info(
            "messages", messages=[f"{message.kind} {message.dedup_key}: {message.subject}" for message in messages]
        )
        return [SENT] * len(messages)
