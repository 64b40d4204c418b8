"""The entry point of the command `caravan`."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module

from caravan.printable import escape_unprintable


def main() -> None:
    """The command `caravan`. What nobody foresaw may quote anybody, so it is escaped."""
    try:
        import_module("cli").app()
    except Exception as error:
        sys.stderr.write(escape_unprintable("".join(traceback.format_exception(error)), keep="\n"))
        sys.exit(1)


if __name__ == "__main__":
    main()
