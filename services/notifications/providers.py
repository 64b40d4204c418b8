"""Third parties that carry messages: a class per channel, taking a batch of letters and saying of each what came of
it.
"""

import asyncio
import errno
import math
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import format_datetime
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
import orjson

from caravan.backoff import compute_exponential_backoff
from caravan.clock import Clock
from caravan.derivation import derive_secret
from caravan.service import ServiceContext
from caravan.telemetry import log
from services.notifications import mime
from services.notifications.rendering import RenderedMessage
from services.notifications.settings import Settings

SLICE_SIZE = 20
"""Letters handled before the event loop gets its turn: about 2 ms."""
SMTP_SECONDS = 10.0
BATCH_SECONDS = 45.0
"""After this a batch is cut short: well within the lease of its rows."""
MESSAGES_PER_CONNECTION = 10


@dataclass(frozen=True, slots=True)
class SendResult:
    """`again`: this letter failed, later it may work. `refused`: it never will. `later`: it was not tried. `down`: the
    provider is away as a whole.
    """

    status: Literal["sent", "again", "refused", "later", "down"]
    reason: str | None = None


SENT, NOT_TRIED = SendResult("sent"), SendResult("later")


class MessageProvider(Protocol):
    """Carries letters of one channel. A letter may come again after a crash, with the same key: who can, drops the
    second.
    """

    async def send(self, messages: Sequence[RenderedMessage]) -> list[SendResult]:
        """One verdict for each letter, in their order."""


@dataclass(slots=True)
class ProviderBackoff:
    """A provider that is down is left alone for a while that doubles, so that a backlog is not spent on asking it."""

    failures: int = 0
    paused_until: float = 0.0

    def record_failure(self) -> None:
        self.paused_until = time.monotonic() + compute_exponential_backoff(self.failures, 0.5, 15.0)
        self.failures = min(self.failures + 1, 10)

    def record_success(self) -> None:
        self.failures = 0


@dataclass(slots=True)
class NotificationsResources:
    """`providers` by channel: another channel is another line here."""

    providers: dict[str, MessageProvider]
    base_url: str
    """Where links lead."""
    unsubscribe_secret: str
    backoffs: dict[str, ProviderBackoff] = field(default_factory=dict)

    def get_backoff(self, channel: str) -> ProviderBackoff:
        return self.backoffs.setdefault(channel, ProviderBackoff())

    def available_channels(self) -> list[str]:
        now = time.monotonic()
        return [channel for channel in self.providers if self.get_backoff(channel).paused_until <= now]


@asynccontextmanager
async def open_resources(
    context: ServiceContext[Settings, NotificationsResources],
) -> AsyncIterator[NotificationsResources]:
    settings, folder = context.settings, context.kernel_settings.data
    email: MessageProvider
    if settings.smtp_url is not None:
        email = SmtpEmailProvider(
            settings.smtp_url.get_secret_value(), settings.sender, settings.smtp_connections, context.clock
        )
    else:
        email = FolderEmailProvider(folder / "mail", settings.sender)
    yield NotificationsResources(
        {"email": email, "sms": SmsFileProvider(folder / "sms.jsonl"), "log": LogProvider()},
        (context.kernel_settings.public_url or context.url).rstrip("/"),
        derive_secret(context.secret, "unsubscribe"),
    )


class FolderEmailProvider:
    """A file per mail, for a shop without a mail server. The name follows from the letter, so a letter that comes again
    replaces itself.

    The files are written on the event loop, a slice at a time: 20 µs each; a rename would make it 35. A worker thread
    has to take the interpreter's lock
    back after every system call and was measured at 14 ms per file beside a busy loop. Nothing is synced to the disk:
    after a power cut, mails of the last seconds may be missing.
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
        made_at = message.created_at.astimezone(UTC)
        name = f"{made_at:%Y%m%dT%H%M%S.%fZ}-{message.kind}-{message.key}.eml"
        content = mime.compose_mail(message, self.sender, format_datetime(made_at))
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


class SmtpEmailProvider:
    """A mail server. It may take a letter and lose the connection before it says so; the letter then comes again with
    its Message-ID.
    """

    def __init__(self, url: str, sender: str, connections: int, clock: Clock) -> None:
        self._url = urlsplit(url)
        self._sender = sender
        self._envelope = sender.rpartition("<")[2].rstrip(">")
        self._connections = connections
        self._clock = clock

    async def send(self, messages: Sequence[RenderedMessage]) -> list[SendResult]:
        results = [NOT_TRIED] * len(messages)
        queue = enumerate(messages)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._connections, math.ceil(len(messages) / MESSAGES_PER_CONNECTION))):
                group.create_task(self._send_on_connection(queue, results))
        return results

    async def _send_on_connection(
        self, queue: Iterator[tuple[int, RenderedMessage]], results: list[SendResult]
    ) -> None:
        """Hand over letters on a connection of its own, until there are none left or the connection is lost."""
        batch_end = time.monotonic() + BATCH_SECONDS
        client = self._create_client()
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            index, _ = next(queue, (None, None))
            if index is not None:
                results[index] = SendResult("down", _describe_error(error))
            return
        try:
            for index, message in queue:
                results[index] = await self._send_message(client, message)
                if not client.is_connected or time.monotonic() > batch_end:
                    break
        finally:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit()

    def _create_client(self) -> aiosmtplib.SMTP:
        url = self._url
        return aiosmtplib.SMTP(
            hostname=url.hostname,
            port=url.port,
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=url.scheme == "smtps",
            start_tls=True if url.scheme == "smtp+starttls" else None,
            timeout=SMTP_SECONDS,
        )

    async def _send_message(self, client: aiosmtplib.SMTP, message: RenderedMessage) -> SendResult:
        recipient = mime.encode_address(message.recipient)
        mail = mime.compose_mail(message, self._sender, format_datetime(self._clock()))
        try:
            await client.sendmail(
                self._envelope, recipient, mail, mail_options=() if recipient.isascii() else ("SMTPUTF8",)
            )
            return SENT
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _classify_reply(error.recipients[0].code, str(error.recipients[0]))
        except aiosmtplib.SMTPResponseException as error:
            return _classify_reply(error.code, _describe_error(error))
        except (aiosmtplib.SMTPNotSupported, ValueError) as error:
            return SendResult("refused", _describe_error(error))
        except (aiosmtplib.SMTPException, OSError) as error:
            client.close()
            return SendResult("again", _describe_error(error))


def _classify_reply(code: int, reason: str) -> SendResult:
    return SendResult("refused" if 500 <= code < 600 else "again", reason)


def _describe_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


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
