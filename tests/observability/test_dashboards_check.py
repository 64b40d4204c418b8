"""The check and the pictures ask the sources as Grafana does: a small server answers as Prometheus, Loki and Jaeger."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from observability.dashboards.__main__ import main
from observability.dashboards.check import check_boards, render_outcomes
from observability.dashboards.declared import load_metrics
from observability.dashboards.grafana import render_board
from observability.dashboards.library import BOARDS
from observability.dashboards.picture import draw_board
from observability.dashboards.sources import Series, Sources
from observability.dashboards.units import format_value

END = 1_800_000_000.0
VOLUMES = "a storage driver that measures its volumes"
BOARD_BY_NAME = {board.name: json.loads(render_board(board)) for board in BOARDS}
LABELS = {"service": "orders", "channel": "order-created", "result": "hit", "method": "GET", "route": "/v1/orders"}
TRACE = {
    "traceID": "4bf92f3577b34da6a3ce929d0e0e4736",
    "spans": [{"operationName": "POST /v1/orders", "startTime": int(END * 1e6), "duration": 12_000}],
    "processes": {"p1": {"serviceName": "orders"}, "p2": {"serviceName": "payments"}},
}


class Answers(BaseHTTPRequestHandler):
    asked: list[tuple[str, dict[str, str]]]
    names: list[str]
    is_empty: bool

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parameters = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.asked.append((url.path, parameters))
        body = json.dumps(self.answer(url.path, parameters)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path: str, parameters: dict[str, str]) -> Any:
        if path == "/api/v1/label/__name__/values":
            return {"data": self.names}
        if path == "/api/traces":
            return {"data": [TRACE]}
        if path.startswith("/loki"):
            line = [str(int(END * 1e9)), '{"event": "order accepted"}']
            return {"data": {"result": [{"stream": {"service_name": "orders"}, "values": [line]}]}}
        if self.is_empty:
            return {"data": {"result": []}}
        if path.endswith("query"):
            return {"data": {"result": [{"metric": LABELS, "value": [END, "3.5"]}]}}
        values = [[END - 60 + step * 10, str(step)] for step in range(7)]
        return {"data": {"result": [{"metric": LABELS, "values": values}]}}

    def log_message(self, *_: Any) -> None:
        """Not into the tests' output."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Answers]]]:
    class Here(Answers):
        asked: list[tuple[str, dict[str, str]]] = []
        names = ["up", "caravan_cache_requests_total"]
        is_empty = False

    with ThreadingHTTPServer(("127.0.0.1", 0), Here) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", Here
        running.shutdown()
        thread.join(10)


def test_a_panel_is_asked_with_its_variables_filled_in(server: tuple[str, type[Answers]]) -> None:
    url, answers = server
    sources = Sources({"prometheus": url}, END, 3600, scrape_seconds=15)
    board = BOARD_BY_NAME["cache"]
    series = sources.ask_panel(
        board, next(panel for panel in board["panels"] if panel["title"] == "Hit rate by service")
    )
    path, parameters = answers.asked[0]
    assert path == "/api/v1/query_range"
    assert "$" not in parameters["query"]
    assert "[60s]" in parameters["query"]
    assert 'namespace=~".*"' in parameters["query"]
    assert (float(parameters["end"]) - float(parameters["start"]), float(parameters["step"])) == (3600, 30)
    assert [each.name for each in series] == ["orders"]


def test_logs_and_traces_of_one_order_are_asked_for(server: tuple[str, type[Answers]]) -> None:
    url, answers = server
    kinds = dict.fromkeys(("prometheus", "loki", "jaeger"), url)
    sources = Sources(kinds, END, 600, values={"order_id": "0199"})
    board = BOARD_BY_NAME["order-journey"]
    traces, logs = [panel for panel in board["panels"] if panel.get("datasource", {}).get("type") in ("jaeger", "loki")]
    assert sources.ask_panel(board, traces)[0].labels["services"] == "2"
    assert answers.asked[-1][1]["tags"] == '{"order.id":"0199"}'
    assert "order accepted" in sources.ask_panel(board, logs)[0].name
    assert 'order_id="0199"' in answers.asked[-1][1]["query"]


def test_a_panel_without_data_needs_a_reason(server: tuple[str, type[Answers]]) -> None:
    url, answers = server
    answers.is_empty = True
    boards = [BOARD_BY_NAME["cache"], BOARD_BY_NAME["kafka"]]
    outcomes = check_boards(boards, Sources({"prometheus": url}, END, 600), load_metrics())
    assert {outcome.needs for outcome in outcomes if outcome.board == "Cache"} == {""}
    assert {outcome.needs for outcome in outcomes if outcome.board == "Kafka"} == {"Kafka's exporter", VOLUMES}
    text = render_outcomes(outcomes)
    assert "Cache: Hit rate: RETURNED NOTHING" in text
    assert text.endswith("0 of 17 panels returned data, 0 series in all; 9 need what is not here; 8 returned nothing")


def test_a_backend_that_is_there_is_no_reason(server: tuple[str, type[Answers]]) -> None:
    url, answers = server
    answers.is_empty, answers.names = True, ["kafka_brokers"]
    outcomes = check_boards([BOARD_BY_NAME["kafka"]], Sources({"prometheus": url}, END, 600), load_metrics())
    assert {outcome.needs for outcome in outcomes} == {"", VOLUMES}


def test_the_command_says_how_many_and_ends_with_1_when_one_is_empty(
    server: tuple[str, type[Answers]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, answers = server
    assert main(["--check", url, "--board", "cache"]) == 0
    assert "8 of 8 panels returned data" in capsys.readouterr().out
    answers.is_empty = True
    assert main(["--check", url, "--board", "cache"]) == 1


def test_a_dashboard_is_drawn(server: tuple[str, type[Answers]], tmp_path: Path) -> None:
    url, _ = server
    assert main(["--draw", str(tmp_path), url, "--loki", url, "--board", "services"]) == 0
    picture = (tmp_path / "dashboard-services.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 150_000


def test_a_value_of_any_size_is_drawn() -> None:
    board = BOARD_BY_NAME["messaging"]
    extremes = [Series("x" * 200, [(END, 0.0), (END + 60, 1e15)]), Series("", [(END, -1.0)])]
    data = {panel["id"]: extremes for panel in board["panels"] if panel["type"] != "row"}
    assert draw_board(board, data, {}, "ever").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "percentunit", "1.23 %"),
        (1, "percentunit", "100 %"),
        (0.0005, "s", "500 µs"),
        (0.25, "s", "250 ms"),
        (90, "s", "1.50 min"),
        (0, "s", "0 s"),
        (3 * 2**20, "bytes", "3 MiB"),
        (1234, "short", "1.23k"),
        (12.34, "reqps", "12.3 req/s"),
        (7, "none", "7"),
    ],
)
def test_a_number_is_as_short_as_a_reader_needs(value: float, unit: str, text: str) -> None:
    assert format_value(value, unit) == text
