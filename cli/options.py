"""Options that several commands share, with their defaults."""

from pathlib import Path
from typing import Annotated, Literal

import typer

MAX_WAIT_SECONDS = 120.0
DEFAULT_CONCURRENCY = 8

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", exists=True, dir_okay=False, readable=True, help="Invoice lines as CSV."),
]
Url = Annotated[
    str | None,
    typer.Option(help="The gateway; by default the one on CARAVAN_PORT of this machine.", show_default=False),
]
Output = Annotated[Literal["table", "json"], typer.Option(help="How to print the result.")]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Requests under way at the same time.")]

MaxWait = Annotated[
    float,
    typer.Option("--max-wait", "--patience", min=0, help="Seconds to wait for a shop that is unavailable."),
]


Delimiter = Annotated[
    str | None,
    typer.Option(help="What separates columns: comma, semicolon, tab, bar, or one sign.", show_default=False),
]
Encoding = Annotated[
    str | None, typer.Option(help="How the text is written, such as utf-8, cp1252, cp850.", show_default=False)
]
Decimal = Annotated[
    Literal["point", "comma"] | None,
    typer.Option("--decimal", help="What separates decimals; the other separates thousands.", show_default=False),
]
Dates = Annotated[
    Literal["day-first", "month-first"] | None, typer.Option(help="How 1/2/2011 is meant.", show_default=False)
]
Currency = Annotated[str | None, typer.Option(help="The currency of the prices, such as EUR.", show_default=False)]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="FIELD=HEADER",
        help="Which column is which, such as sku=ArtNo; customer=none.",
        show_default=False,
    ),
]


CauseOption = Annotated[
    str | None, typer.Option(help="All of this cause; see `caravan failures list`.", show_default=False)
]
SubscriptionOption = Annotated[
    str | None, typer.Option(help="All of this subscription, such as `inventory.reserve-stock`.", show_default=False)
]
FailureIds = Annotated[list[str] | None, typer.Argument(help="Just these, by id.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
OrderId = Annotated[str, typer.Argument(metavar="ID", help="The order's id.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="`<queue>:<id>`, as `caravan jobs list` shows it.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="`<queue>:<id>`, as `caravan jobs list` shows it.")]
