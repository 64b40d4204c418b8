"""The entry point of the command `caravan`."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from types import TracebackType

from caravan.printable import escape_unprintable


def _print_traceback(error_type: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody foresaw may quote anybody."""
    sys.stderr.write(escape_unprintable("".join(traceback.format_exception(error_type, error, trace)), keep="\n"))


def main() -> None:
    """The command `caravan`."""
    sys.excepthook = _print_traceback
    import_module("cli").app()


if __name__ == "__main__":
    main()
