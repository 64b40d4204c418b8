"""Commands that read the databases themselves say in words what keeps them from it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from caravan.runtime import Backends
from cli import app
from tests.support.backends.ready import free_ports

COMMANDS = pytest.mark.parametrize("command", [["status"], ["projections", "rebuild", "order_summary"]], ids=" ".join)


def ask(command: list[str], backends: Backends, data: Path, **settings: str) -> Result:
    given = {
        "CARAVAN_DATABASE_URL": backends.database_url,
        "CARAVAN_REDIS_URL": backends.redis_url,
        "CARAVAN_SECRET": backends.secret,
        "CARAVAN_DATA": str(data),
    }
    return CliRunner().invoke(app, command, env={**given, **settings})


@COMMANDS
def test_where_postgres_is_not(command: list[str], backends: Backends, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    result = ask(command, backends, tmp_path, CARAVAN_DATABASE_URL=f"postgresql://postgres:x@127.0.0.1:{port}/postgres")
    assert result.exit_code == 2 and "start it, or correct its URL" in " ".join(result.output.split()), result.output


@COMMANDS
def test_where_no_database_was_made_yet(command: list[str], backends: Backends, tmp_path: Path) -> None:
    result = ask(command, backends, tmp_path)
    assert result.exit_code == 2 and "run `caravan migrate`" in " ".join(result.output.split()), result.output
