"""The daily report's mail, and the picture in it."""

import dataclasses
import struct
from email.message import EmailMessage
from typing import Any

import pytest

from caravan.clock import new_id
from services.notifications import mime
from services.notifications.messages import SendNotification
from services.notifications.rendering import InlinePicture
from services.notifications.sales_chart import draw_sales_chart
from tests.services.notifications.conftest import Carrier, Mailbox, ask, text_of
from tests.services.notifications.test_rendering import EVERYTHING, make_message, parsed
from tests.services.notifications.test_sending import reached
from tests.support.shop import Shop

NAMES = ("day", "orders", "states", "sales", "history")


def ask_for_report(**changes: Any) -> SendNotification:
    values = {name: EVERYTHING[name] for name in NAMES} | changes
    about = f"daily-report:2026-03-09:{new_id()}"
    return SendNotification(about=about, kind="daily_report", user_id=None, email="ada@example.com", values=values)


async def test_the_mail_says_the_figures_and_shows_the_picture(shop: Shop, mailbox: Mailbox) -> None:
    command = ask_for_report()
    await ask(shop, command, command)
    await reached(shop, command.about, state="sent")
    (mail,) = mailbox.mails("Revenue of the last 2 days, GBP")
    assert mail["subject"] == "9 March 2026: 3 orders, 19.99 GBP"
    text = text_of(mail)
    assert "19.99 GBP of 2 paid orders, 4 pieces; 5.01 GBP given back" in text and "8 March 2026: -0.05 GBP" in text
    html = text_of(mail, "html")
    assert '<img src="cid:GBP"' in html and "9 March 2026: 19.99 GBP" in html, (
        "whoever sees no picture reads its figures"
    )
    (picture,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    assert picture["content-id"] == "<GBP>"


async def test_a_day_without_orders_is_a_mail_without_a_picture(shop: Shop, carrier: Carrier) -> None:
    command = ask_for_report(orders=0, states={}, sales=[], history={})
    await ask(shop, command)
    await reached(shop, command.about, state="sent")
    (message,) = [message for message in carrier.messages if message.dedup_key == command.about]
    assert (message.subject, message.pictures) == ("9 March 2026: 0 orders", ())


@pytest.mark.parametrize("revenues", [[1], [0, 0], [-5, -3], [1, 10**15], [(7919 * day) % 90_000 for day in range(14)]])
def test_any_figures_are_drawn(revenues: list[int]) -> None:
    days = [{"day": f"2026-03-{number + 1:02}", "revenue": revenue} for number, revenue in enumerate(revenues)]
    picture = draw_sales_chart(days, "JPY")
    assert picture.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", picture[16:24]) == (780, 392)
    assert len(picture) < 40_000


def test_a_picture_is_a_part_of_the_html_that_it_belongs_to() -> None:
    picture = draw_sales_chart(EVERYTHING["history"]["GBP"], "GBP")
    written = dataclasses.replace(
        make_message(html='<img src="cid:GBP">'),
        pictures=(InlinePicture("GBP", picture), InlinePicture("x\r\ny", b"\x00")),
    )
    mail = parsed(written)
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "multipart/related"]
    related = list(mail.iter_parts())[1]
    assert isinstance(related, EmailMessage)
    html, shown, other = related.iter_parts()
    assert isinstance(html, EmailMessage)
    assert html.get_content().strip() == '<img src="cid:GBP">'
    assert (shown["content-id"], shown.get_content_type()) == ("<GBP>", "image/png")
    assert shown.get_payload(decode=True) == picture
    assert other["content-id"] == "<xy>" and other.get_payload(decode=True) == b"\x00"
    assert all(len(line) <= 998 for line in mime.compose_mail(written, "a <a@b.c>", "x").split(b"\r\n"))
