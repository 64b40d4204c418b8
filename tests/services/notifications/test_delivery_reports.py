"""Delivery status notifications (RFC 3464): which recipients they fail, whom they can't, and hostile ones."""

import time
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from caravan.clock import new_id
from caravan.errors import InvalidRequest
from services.notifications.delivery_reports import MAX_BYTES, MAX_PARTS, read_delivery_report
from services.notifications.model import build_provider_key
from services.notifications.signatures import sign_report
from tests.services.notifications.conftest import BOUNCE_SECRET, Carrier
from tests.services.notifications.test_bounces import ADDRESSES, create_customer, send_confirmation
from tests.services.notifications.test_sending import reached
from tests.support.shop import Shop

REPORTS = "/v1/notifications/delivery-reports"
SHAPES = Path(__file__).parent / "delivery_reports"
"""In the shapes of well-known mail servers, written by hand."""


def write_report(
    recipient: str,
    message_id: str,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = "smtp; 550 5.1.1 no such user",
    returned: str = "text/rfc822-headers",
) -> bytes:
    lines = [
        "From: MAILER-DAEMON@mx.example.com",
        "Subject: Undelivered Mail Returned to Sender",
        "MIME-Version: 1.0",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b1"',
        "",
        "--b1",
        "Content-Type: text/plain",
        "",
        "I'm sorry to have to inform you.",
        "--b1",
        "Content-Type: message/delivery-status",
        "",
        "Reporting-MTA: dns; mx.example.com",
        "",
        f"Final-Recipient: rfc822; {recipient}",
        f"Action: {action}",
        f"Status: {status}",
        f"Diagnostic-Code: {diagnostic}",
        "",
        "--b1",
        f"Content-Type: {returned}",
        "",
        f"Message-ID: <{message_id}>",
        "Subject: Your order is confirmed",
        "",
        "--b1--",
        "",
    ]
    return "\r\n".join(lines).encode()


async def post(shop: Shop, content: bytes, secret: str = BOUNCE_SECRET) -> httpx2.Response:
    headers = {"content-type": "message/rfc822", "bounce-signature": sign_report(secret, content, int(time.time()))}
    return await shop.client.post(REPORTS, content=content, headers=headers)


async def send_mail(shop: Shop, address: str, user: UUID | None = None) -> tuple[str, str]:
    """A mail that was sent: what it is about, and its Message-ID."""
    user = user or await create_customer(shop, address)
    mail = await send_confirmation(shop, user, address)
    return mail["about"], f"{build_provider_key(mail['about'], 'order_confirmed')}@caravan.local"


async def is_undeliverable(shop: Shop, address: str) -> bool:
    answer = await shop.client.get(f"{ADDRESSES}?limit=100", headers=shop.issue_headers("staff"))
    return address in {item["address"] for item in answer.json()["items"]}


@pytest.mark.parametrize("returned", ["text/rfc822-headers", "message/rfc822"])
async def test_a_report_fails_the_mail_that_it_returns(shop: Shop, carrier: Carrier, returned: str) -> None:
    address = f"{new_id()}@example.com"
    about, message_id = await send_mail(shop, address)
    content = write_report(address, message_id, returned=returned)
    answer = await post(shop, content)
    assert (answer.status_code, answer.json()) == (200, {"undeliverable": 1, "failed": 1, "ignored": 0})
    failed = await reached(shop, about, state="failed")
    assert failed["reason"] == "came back: 5.1.1 550 5.1.1 no such user"
    assert await is_undeliverable(shop, address)
    assert (await post(shop, content)).json() == {"undeliverable": 0, "failed": 0, "ignored": 1}, "once"


async def test_a_full_mailbox_fails_the_mail_and_not_the_address(shop: Shop, carrier: Carrier) -> None:
    address = f"{new_id()}@example.com"
    about, message_id = await send_mail(shop, address)
    content = write_report(address, message_id, status="5.2.2", diagnostic="smtp; 552 5.2.2 mailbox full")
    assert (await post(shop, content)).json() == {"undeliverable": 0, "failed": 1, "ignored": 0}
    await reached(shop, about, state="failed")
    assert not await is_undeliverable(shop, address)


async def test_nobody_else_stops_somebodys_mails_by_a_forged_report(shop: Shop, carrier: Carrier) -> None:
    """Whoever writes to the address for bounces knows the victim's address, and at most a Message-ID of their own."""
    victim, attacker = f"{new_id()}@example.com", f"{new_id()}@example.com"
    about, _ = await send_mail(shop, victim)
    _, own_id = await send_mail(shop, attacker)
    for message_id in (own_id, f"{'0' * 32}@caravan.local", ""):
        answer = await post(shop, write_report(victim, message_id))
        assert answer.json() == {"undeliverable": 0, "failed": 0, "ignored": 1}
    assert not await is_undeliverable(shop, victim)
    await reached(shop, about, state="sent")


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded", "nonsense"])
async def test_what_did_not_fail_changes_nothing(shop: Shop, carrier: Carrier, action: str) -> None:
    address = f"{new_id()}@example.com"
    about, message_id = await send_mail(shop, address)
    answer = await post(shop, write_report(address, message_id, action=action))
    assert answer.json() == {"undeliverable": 0, "failed": 0, "ignored": 0}
    await reached(shop, about, state="sent")


async def test_only_who_knows_the_secret_reports(shop: Shop) -> None:
    content = write_report("ada@example.com", "x@y")
    assert (await post(shop, content, secret="another secret of the same length here")).status_code == 400
    unsigned = await shop.client.post(REPORTS, content=content, headers={"content-type": "message/rfc822"})
    assert unsigned.status_code == 400


async def test_other_mail_is_refused_in_words(shop: Shop) -> None:
    answer = await post(shop, b"From: ada@example.com\r\nSubject: I am away\r\n\r\nUntil Monday.\r\n")
    assert answer.status_code == 422
    assert "delivery status notification" in answer.json()["detail"]


@pytest.mark.parametrize("path", sorted(SHAPES.glob("*.eml")), ids=lambda path: path.stem)
def test_reports_in_the_shapes_of_mail_servers_are_read(path: Path) -> None:
    (event,) = read_delivery_report(path.read_bytes())
    assert (event.recipient, event.message_id) == ("ada@example.com", "0123456789abcdef0123456789abcdef@shop.example")
    assert event.is_permanent
    assert event.reason.startswith("5.1.1")


def test_a_forwarded_mail_is_told_by_the_address_that_it_was_sent_to() -> None:
    content = write_report("ada@elsewhere.example", "a@b").replace(
        b"Final-Recipient", b"Original-Recipient: rfc822;ada@example.com\r\nFinal-Recipient"
    )
    assert [event.recipient for event in read_delivery_report(content)] == ["ada@example.com"]


def test_control_characters_of_a_diagnosis_are_shown_and_it_is_cut() -> None:
    content = write_report("ada@example.com", "a@b", diagnostic="smtp; \x1b[31mno\u202e " + "x" * 5000)
    (event,) = read_delivery_report(content)
    assert event.reason.isprintable() and len(event.reason) <= 500


def nest(depth: int, kind: str) -> bytes:
    parts = [f'Content-Type: {kind}; boundary="b{level}"\r\n\r\n--b{level}\r\n' for level in range(depth)]
    return "".join(parts).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff" * 1000,
        b"x" * (MAX_BYTES + 1),
        nest(MAX_PARTS + 1, "multipart/mixed"),
        nest(5000, "multipart/report"),
        nest(5000, "message/rfc822"),
        nest(MAX_PARTS, "message/rfc822"),
        b"Content-Type: multipart/report\r\n\r\nno boundary",
        b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n',
        b"Content-Type: multipart/report; boundary*0*=utf-7''+AAAA; boundary=b\r\n\r\n--b--",
    ],
    ids=range(10),
)
def test_no_mail_breaks_its_reader(content: bytes) -> None:
    began = time.process_time()
    with suppress(InvalidRequest):
        assert read_delivery_report(content) == []
    assert time.process_time() - began < 1


def test_many_recipients_are_read_up_to_a_bound() -> None:
    block = b"\r\nFinal-Recipient: rfc822; %d@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    head, _, tail = write_report("ada@example.com", "a@b").partition(b"\r\n--b1\r\nContent-Type: text/rfc822-headers")
    content = head + b"".join(block % number for number in range(3000)) + b"\r\n--b1\r\nContent-Type: text/x" + tail
    assert len(read_delivery_report(content)) == 100
