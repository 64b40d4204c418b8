"""All boards, and the files that are made of them: `make docs` writes them."""

import json
from collections.abc import Collection
from typing import Any

from observability.dashboards.boards import (
    cache,
    databases,
    jobs,
    kafka,
    kubernetes,
    messaging,
    operator_board,
    order_journey,
    rabbitmq,
    services,
    shop,
    slo,
    telemetry,
)
from observability.dashboards.declared import ROOT
from observability.dashboards.grafana import render_board
from observability.dashboards.model import Board

FOLDER = "observability/dashboards"

BOARDS: tuple[Board, ...] = tuple(
    board
    for module in (
        shop,
        services,
        order_journey,
        messaging,
        jobs,
        cache,
        databases,
        kafka,
        rabbitmq,
        operator_board,
        kubernetes,
        slo,
        telemetry,
    )
    for board in module.BOARDS
)


def render_dashboards() -> dict[str, str]:
    """The text of each file by its path."""
    return {f"{FOLDER}/{board.name}.json": render_board(board) for board in BOARDS}


def load_boards(names: Collection[str] = ()) -> list[dict[str, Any]]:
    """The files as they are; all when none is named."""
    return [
        json.loads((ROOT / FOLDER / f"{board.name}.json").read_text())
        for board in BOARDS
        if not names or board.name in names
    ]
