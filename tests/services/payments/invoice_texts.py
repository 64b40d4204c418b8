"""The text of a drawn invoice, and an order that is paid."""

from io import BytesIO
from typing import Any

from pypdf import PdfReader

from services.payments.messages import ExpectPayment
from tests.services.payments.conftest import Till


async def extract_text(till: Till, order: ExpectPayment) -> str:
    answer = await till.shop.client.get(
        f"/v1/orders/{order.order_id}/invoice", headers=till.shop.issue_headers(user_id=order.user_id)
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pdf"
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(answer.content)).pages)


async def create_paid_order(till: Till, **changes: Any) -> ExpectPayment:
    order = till.order(**changes)
    await till.capture(order)
    await till.wait_for(order.order_id, "payment-completed")
    return order
