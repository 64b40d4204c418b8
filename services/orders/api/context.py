"""The context of orders, as its routes take it from the request."""

from fastapi import Request

from services.orders.use_cases import OrdersContext


def get_context(request: Request) -> OrdersContext:
    context: OrdersContext = request.app.state.context
    return context
