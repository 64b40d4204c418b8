"""`caravan-operator crds`: the CustomResourceDefinitions of this version."""

from pathlib import Path
from typing import Annotated

import typer

from caravan_operator.resources.__main__ import render_files


def print_crds(
    folder: Annotated[
        Path | None, typer.Option(help="Write a file per kind there. Default: print all of them.")
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions: `caravan-operator crds | kubectl apply --server-side -f -`."""
    contents = {path.partition("/")[2]: content for path, content in render_files().items() if path.startswith("crds/")}
    if folder is None:
        typer.echo("---\n".join(contents.values()), nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
        typer.echo(f"wrote {folder / name}")
