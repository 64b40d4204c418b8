"""The single commands: their names, options and help. What a command does is in the module of its name, which is
imported only when the command runs.
"""

from typing import Annotated, Literal

import typer

from cli.options import (
    DEFAULT_CONCURRENCY,
    MAX_WAIT_SECONDS,
    Columns,
    Concurrency,
    Currency,
    Dates,
    Decimal,
    Delimiter,
    Encoding,
    Files,
    MaxWait,
    Output,
    Url,
)


def up() -> None:
    """Start the whole shop: Postgres and Valkey from the data folder, all services in one process, on CARAVAN_PORT
    (8080).

    Stop it with Ctrl-C; what it stored is there at the next start. `make clean` deletes the data folder.
    """
    from cli import up as command

    command.start_shop()


def run(
    names: Annotated[
        list[str], typer.Argument(metavar="SERVICE...", help="Services to run in this process, or `all`.")
    ],
) -> None:
    """Run services in this process. Without backends in the settings, those of the data folder are used, and started if
    they don't run.

    Listens on CARAVAN_PORT; a process without the gateway takes a free port unless it is set.
    """
    from cli import run as command

    command.run_services(names)


def migrate() -> None:
    """Make and upgrade the databases of all services, each with a role of its own, and end. Waits for Postgres; safe to
    run twice at once.

    CARAVAN_DATABASE_URL names a role that may create roles and databases. The services then run with
    CARAVAN_MIGRATE=false and a URL without a user.
    """
    from cli import migrate as command

    command.migrate_databases()


def cache(output: Output = "table") -> None:
    """What the services keep in the shared cache: what each entry holds, what voids it, and how old it may be.

    Reads the declarations; needs no running service.
    """
    from cli import cache as command

    command.list_caches(output)


def seed(url: Url = None, max_wait_seconds: MaxWait = MAX_WAIT_SECONDS) -> None:
    """Fill an empty shop with a small catalogue that has stock; one that has products is left as it is."""
    from cli import seed as command

    command.seed_catalogue(url, max_wait_seconds)


def demo(
    url: Url = None,
    token: Annotated[
        str, typer.Option(help="Payment token: tok_ok, tok_declined, tok_flaky, tok_timeout_charged.")
    ] = "tok_ok",
    seconds: Annotated[float, typer.Option(min=1, help="How long to watch the order.")] = 60.0,
) -> None:
    """Register a customer, order two products, and print the order's events as they come, until it has ended.

    Exit status 1 when the order has not ended in time.
    """
    from cli import demo as command

    command.run_demo(url, token, seconds)


def import_(
    files: Files,
    url: Url = None,
    output: Output = "table",
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    max_wait_seconds: MaxWait = MAX_WAIT_SECONDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report only; send no request.")] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show how the files would be read, and some lines as read; send no request."),
    ] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
    dates: Dates = None,
    currency: Currency = None,
    column: Columns = None,
) -> None:
    """Import the products, customers and stock of invoice files (CSV), and report for every line what became of it.

    The form of a file is derived from the whole of it, and reported; what can't be derived must be given as an option.
    Importing a file or a part of it again adds nothing. Exit status 1 when a file has no line that can be used.
    """
    from cli import import_files as command

    command.import_files(
        files,
        url,
        output,
        concurrency,
        max_wait_seconds,
        dry_run,
        explain,
        delimiter,
        encoding,
        decimal,
        dates,
        currency,
        column,
    )


def replay(
    files: Files,
    url: Url = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="So many times real time; by default as fast as it goes.", show_default=False),
    ] = None,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    import_first: Annotated[
        bool,
        typer.Option(
            "--import/--no-import", help="Import products, customers and stock first; repeating it adds nothing."
        ),
    ] = True,
    deadline: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for the orders to end, after the last was placed.")
    ] = 900.0,
    max_wait_seconds: MaxWait = MAX_WAIT_SECONDS,
    output: Output = "table",
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
    dates: Dates = None,
    currency: Currency = None,
    column: Columns = None,
) -> None:
    """Place each invoice of the files (CSV) as an order, in the order of their time, wait for all to end, and compare
    the shop's books.

    Run it again after an interruption: nothing is placed twice. Exit status 1 when the books differ, or a file has no
    line that can be used.
    """
    from cli import replay as command

    command.replay_invoices(
        files,
        url,
        speed,
        concurrency,
        import_first,
        deadline,
        max_wait_seconds,
        output,
        delimiter,
        encoding,
        decimal,
        dates,
        currency,
        column,
    )


def reconcile(
    url: Url = None,
    full: Annotated[bool, typer.Option("--full", help="Compare old orders, too, not only what has changed.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what a command corrects, within the bounds of one run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--no-dry-run", help="With --repair: say what would be done, and do nothing.")
    ] = True,
    max_seconds: Annotated[float, typer.Option(min=1, help="How long to wait for the comparison.")] = 900.0,
    output: Output = "table",
) -> None:
    """Compare the books of all services and of the payment provider now, and show what does not add up.

    What changed in the last minute is left for the next comparison: its messages may be on their way. Exit status 1
    when a case is open.
    """
    from cli import reconcile as command

    command.reconcile_books("full" if full else "changes", repair, dry_run, max_seconds, output, url)


def status(output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table") -> None:
    """Show which services run, how many messages wait where, and what became a dead letter. Exit status 1 when
    something is a dead letter or doesn't answer.
    """
    from cli import status as command

    command.show_status(output)
