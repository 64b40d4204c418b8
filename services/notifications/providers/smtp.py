"""Mail through an SMTP server."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

import aiosmtplib

from caravan.clock import Clock
from services.notifications import mime
from services.notifications.enhanced_status import has_enhanced_status, is_bad_address
from services.notifications.providers.protocol import NOT_TRIED, SENT, SendResult
from services.notifications.rendering import RenderedMessage

SMTP_SECONDS = 10.0
BATCH_SECONDS = 45.0
"""After this a batch is cut short: well within the lease of its rows."""
MESSAGES_PER_CONNECTION = 10
_BAD_ADDRESS_CODES = frozenset({550, 551, 553})


class SmtpEmailProvider:
    """A mail server. It may take a message and lose the connection before it says so; the message then comes again with
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
        """Send messages on a connection of its own, until there are none left or the connection is lost."""
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
            refusal = error.recipients[0]
            return _classify_reply(refusal.code, str(refusal), is_bad_address=_names_bad_address(refusal))
        except aiosmtplib.SMTPResponseException as error:
            return _classify_reply(error.code, _describe_error(error))
        except (aiosmtplib.SMTPNotSupported, ValueError) as error:
            return SendResult("refused", _describe_error(error))
        except (aiosmtplib.SMTPException, OSError) as error:
            client.close()
            return SendResult("again", _describe_error(error))


def _classify_reply(code: int, reason: str, *, is_bad_address: bool = False) -> SendResult:
    return SendResult("refused" if 500 <= code < 600 else "again", reason, is_bad_address)


def _names_bad_address(refusal: aiosmtplib.SMTPRecipientRefused) -> bool:
    """Whether the address itself was refused, and not what we are: by the enhanced status, else by the reply's code."""
    if has_enhanced_status(refusal.message):
        return is_bad_address(refusal.message)
    return refusal.code in _BAD_ADDRESS_CODES


def _describe_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
