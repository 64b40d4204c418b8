"""Arguments of commands: what can't be right is said at once, and what goes into a path stays its own part of it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from cli.api_client import encode_segment

FILE = "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID\n1,A,1,2024-05-01,1.50,7\n"


@pytest.mark.parametrize(
    "url",
    ["garbage", "127.0.0.1:8080", "ftp://shop", "http://", "http://[::1", "http://127.0.0.1:99999", "http://a b", ""],
)
@pytest.mark.parametrize(
    "command",
    [["import", "FILE"], ["failures", "list"], ["jobs", "pause", "x"], ["seed"], ["demo"]],
    ids=lambda words: words[0],
)
def test_a_url_that_is_no_gateways_is_refused_without_waiting_for_it(
    command: list[str], url: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.csv"
    file.write_text(FILE)
    words = [str(file) if word == "FILE" else word for word in command]
    result = CliRunner().invoke(
        app, [*words, "--url", url], env={"CARAVAN_SECRET": "s" * 40, "CARAVAN_DATA": str(tmp_path)}
    )
    assert (
        result.exit_code == 2 and f"--url {url}: must be a URL that begins with http:// or https://" in result.output
    ), result.output


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a/b", "a%2Fb"),
        ("?x=1#y", "%3Fx%3D1%23y"),
        ("a.b:1", "a.b%3A1"),
        ("\x00", "%00"),
    ],
)
def test_foreign_text_stays_one_part_of_a_path(text: str, part: str) -> None:
    assert encode_segment(text) == part
