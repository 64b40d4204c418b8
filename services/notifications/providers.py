"""Third parties that carry messages: a class per channel, taking a batch of letters and saying of each what came of it."""

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

from caravan.clock import Clock
from caravan.derivation import derive
from caravan.service import Context
from caravan.telemetry import log
from services.notifications import mime
from services.notifications.letters import Letter
from services.notifications.settings import Settings

SLICE = 20
"""Letters handled before the event loop gets its turn: about 2 ms."""
SMTP_SECONDS = 10.0
BATCH_SECONDS = 45.0
"""After this a batch is cut short: well within the lease of its rows."""
LETTERS_PER_CONNECTION = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """`again`: this letter failed, later it may work. `refused`: it never will. `later`: it was not tried. `down`: the provider is away as a whole."""

    result: Literal["sent", "again", "refused", "later", "down"]
    reason: str | None = None


SENT, LATER = Verdict("sent"), Verdict("later")


class Provider(Protocol):
    """Carries letters of one channel. A letter may come again after a crash, with the same key: who can, drops the second."""

    async def send(self, letters: Sequence[Letter]) -> list[Verdict]:
        """One verdict for each letter, in their order."""


@dataclass(slots=True)
class Rest:
    """A provider that is down is left alone for a while that doubles, so that a backlog is not spent on asking it."""

    failures: int = 0
    until: float = 0.0

    def down(self) -> None:
        self.until = time.monotonic() + min(0.5 * 2**self.failures, 15.0)
        self.failures = min(self.failures + 1, 10)

    def up(self) -> None:
        self.failures = 0


@dataclass(slots=True)
class Parts:
    """`providers` by channel: another channel is another line here."""

    providers: dict[str, Provider]
    base: str
    """Where links lead."""
    unsubscribe_secret: str
    rests: dict[str, Rest] = field(default_factory=dict)

    def rest(self, channel: str) -> Rest:
        return self.rests.setdefault(channel, Rest())

    def awake(self) -> list[str]:
        now = time.monotonic()
        return [channel for channel in self.providers if self.rest(channel).until <= now]


@asynccontextmanager
async def opened(context: Context[Settings, Parts]) -> AsyncIterator[Parts]:
    settings, folder = context.settings, context.kernel.data
    email: Provider
    if settings.smtp_url is not None:
        email = SmtpEmail(settings.smtp_url.get_secret_value(), settings.sender, settings.smtp_connections, context.clock)
    else:
        email = FolderEmail(folder / "mail", settings.sender)
    yield Parts(
        {"email": email, "sms": SmsStub(folder / "sms.jsonl"), "log": LogMessage()},
        (context.kernel.public_url or context.url).rstrip("/"),
        derive(context.secret, "unsubscribe"),
    )


class FolderEmail:
    """A file per mail, for a shop without a mail server. The name follows from the letter, so a letter that comes again replaces itself.

    The files are written on the event loop, a slice at a time: 20 µs each; a rename would make it 35. A worker thread has to take the interpreter's lock
    back after every system call and was measured at 14 ms per file beside a busy loop. Nothing is synced to the disk: after a power cut, mails of the last seconds may be missing.
    """

    def __init__(self, folder: Path, sender: str) -> None:
        self.folder = folder
        self.sender = sender

    async def send(self, letters: Sequence[Letter]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # parents on the way get no mode
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if self.folder.stat().st_mode & 0o077:
                self.folder.chmod(0o700)  # made by an earlier version: other users of the machine could list it
            for start in range(0, len(letters), SLICE):
                for letter in letters[start : start + SLICE]:
                    self._write(letter)
                    verdicts.append(SENT)
                await asyncio.sleep(0)
        except OSError as error:
            verdicts.append(Verdict("down", f"{self.folder}: {error.strerror}"))
        return verdicts + [LATER] * (len(letters) - len(verdicts))

    def _write(self, letter: Letter) -> None:
        made_at = letter.made_at.astimezone(UTC)
        name = f"{made_at:%Y%m%dT%H%M%S.%fZ}-{letter.kind}-{letter.key}.eml"
        content = mime.compose(letter, self.sender, format_datetime(made_at))
        final = f"{self.folder}/{name}"
        try:
            _write(final, os.O_EXCL, content)
        except FileExistsError:  # it comes again, and may have been cut off by the end of a process: replaced as a whole
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


class SmtpEmail:
    """A mail server. It may take a letter and lose the connection before it says so; the letter then comes again with its Message-ID."""

    def __init__(self, url: str, sender: str, connections: int, clock: Clock) -> None:
        self._url = urlsplit(url)
        self._sender = sender
        self._envelope = sender.rpartition("<")[2].rstrip(">")
        self._connections = connections
        self._clock = clock

    async def send(self, letters: Sequence[Letter]) -> list[Verdict]:
        verdicts = [LATER] * len(letters)
        waiting = enumerate(letters)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._connections, math.ceil(len(letters) / LETTERS_PER_CONNECTION))):
                group.create_task(self._work_off(waiting, verdicts))
        return verdicts

    async def _work_off(self, waiting: Iterator[tuple[int, Letter]], verdicts: list[Verdict]) -> None:
        """Hand over letters on a connection of its own, until there are none left or the connection is lost."""
        until = time.monotonic() + BATCH_SECONDS
        client = self._client()
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            place, _ = next(waiting, (None, None))
            if place is not None:
                verdicts[place] = Verdict("down", _reason(error))
            return
        try:
            for place, letter in waiting:
                verdicts[place] = await self._hand_over(client, letter)
                if not client.is_connected or time.monotonic() > until:
                    break
        finally:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit()

    def _client(self) -> aiosmtplib.SMTP:
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

    async def _hand_over(self, client: aiosmtplib.SMTP, letter: Letter) -> Verdict:
        recipient = mime.address(letter.recipient)
        message = mime.compose(letter, self._sender, format_datetime(self._clock()))
        try:
            await client.sendmail(self._envelope, recipient, message, mail_options=() if recipient.isascii() else ("SMTPUTF8",))
            return SENT
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _answer(error.recipients[0].code, str(error.recipients[0]))
        except aiosmtplib.SMTPResponseException as error:
            return _answer(error.code, _reason(error))
        except (aiosmtplib.SMTPNotSupported, ValueError) as error:
            return Verdict("refused", _reason(error))
        except (aiosmtplib.SMTPException, OSError) as error:
            client.close()
            return Verdict("again", _reason(error))


def _answer(code: int, reason: str) -> Verdict:
    return Verdict("refused" if 500 <= code < 600 else "again", reason)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class SmsStub:
    """Stands in for an SMS gateway: a line of JSON per message in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def send(self, letters: Sequence[Letter]) -> list[Verdict]:
        lines = b"".join(orjson.dumps({"key": letter.key, "to": letter.recipient, "text": letter.subject}) + b"\n" for letter in letters)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.fchmod(file, 0o600)  # an earlier version made it for everybody
                os.write(file, lines)
            finally:
                os.close(file)
        except OSError as error:
            return [Verdict("down", f"{self.path}: {error.strerror}")] * len(letters)
        return [SENT] * len(letters)


class LogMessage:
    """Messages that stay in the house: the user finds them at `/v1/notifications`, operations in the log, one line per batch."""

    async def send(self, letters: Sequence[Letter]) -> list[Verdict]:
        log.info("messages", messages=[f"{letter.kind} {letter.about}: {letter.subject}" for letter in letters])
        return [SENT] * len(letters)
