"""Runs the dashboards' queries against a running Prometheus, Loki and Jaeger, and draws them."""

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from observability.dashboards.check import check_boards, list_needs, render_outcomes
from observability.dashboards.declared import load_metrics
from observability.dashboards.library import load_boards
from observability.dashboards.lint import list_panels
from observability.dashboards.sources import Sources

EXAMPLES = """examples:
  python -m observability.dashboards --check http://127.0.0.1:9090
  python -m observability.dashboards --check http://127.0.0.1:9090 --loki http://127.0.0.1:3100 --set order_id=0192...
  python -m observability.dashboards --draw docs/images http://127.0.0.1:9090 --minutes 15
"""


def main(arguments: list[str] | None = None) -> int:
    options = _read_options(arguments)
    sources = Sources(
        {kind: url for kind in ("prometheus", "loki", "jaeger") if (url := getattr(options, kind))},
        end=time.time(),
        seconds=options.minutes * 60,
        scrape_seconds=options.scrape_seconds,
        values=dict(each.split("=", 1) for each in options.set),
    )
    boards = load_boards(options.board)
    metrics = load_metrics()
    if options.check:
        outcomes = check_boards(boards, sources, metrics)
        print(render_outcomes(outcomes))
        if any(not outcome.series and not outcome.needs for outcome in outcomes):
            return 1
    if options.draw:
        from observability.dashboards.picture import draw_board  # matplotlib, which the check does without

        start, end = (datetime.fromtimestamp(at, UTC) for at in (sources.end - sources.seconds, sources.end))
        for board in boards:
            data = {panel["id"]: sources.ask_panel(board, panel) for panel in list_panels(board)}
            needs = {panel["id"]: ", ".join(sorted(list_needs(panel, metrics))) for panel in list_panels(board)}
            picture = draw_board(board, data, needs, f"{start:%d %b %Y %H:%M} to {end:%H:%M} UTC")
            path = options.draw / f"dashboard-{board['uid'].removeprefix('caravan-')}.png"
            path.write_bytes(picture)
            print(f"{path}: {len(picture) / 1000:.0f} kB")
    return 0


def _read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m observability.dashboards",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prometheus", metavar="URL", help="where Prometheus answers")
    parser.add_argument(
        "--check", action="store_true", help="say which panels have data; exit 1 when one should and has none"
    )
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write a picture of each dashboard there")
    parser.add_argument("--loki", default="", metavar="URL", help="where Loki answers; default: logs are left out")
    parser.add_argument(
        "--jaeger", default="", metavar="URL", help="where Jaeger answers; default: traces are left out"
    )
    parser.add_argument("--board", action="append", metavar="NAME", help="only this dashboard; may be repeated")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a dashboard's variable: order_id=..."
    )
    parser.add_argument("--minutes", type=float, default=30, help="how far back the panels look; default 30")
    parser.add_argument("--scrape-seconds", type=float, default=15, help="how often Prometheus asks; default 15")
    options = parser.parse_args(arguments)
    if not options.check and not options.draw:
        parser.error("say --check, --draw FOLDER or both")
    return options


if __name__ == "__main__":
    sys.exit(main())
