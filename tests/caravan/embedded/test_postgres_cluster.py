"""The folder of a Postgres is whole or not there, and its password and configuration are as the start wants them.

The programs are stand-ins: `test_postgres.py` has the real ones.
"""

from pathlib import Path

import pytest

from caravan.embedded.paths import ServerPaths, StartError
from caravan.embedded.postgres_cluster import (
    MAJOR,
    create_cluster,
    is_unchanged,
    read_port,
    set_password,
    write_configuration,
)

INITDB = f"""#!/bin/sh
echo {MAJOR} > "$2/PG_VERSION"
for option; do case $option in --pwfile=*) cat "${{option#--pwfile=}}" > "$2/seen-password";; esac; done
"""
FAILING = """#!/bin/sh
echo "initdb: no space left"
exit 1
"""


class Folder:
    """A home with stand-ins for the programs."""

    def __init__(self, home: Path) -> None:
        self.binaries = home / "bin"
        self.binaries.mkdir()
        self.paths = ServerPaths(home, home, account=None)
        self.cluster = home / "postgres"
        self.log = home / "log"
        self.log.touch()
        self.announcements: list[str] = []

    def install(self, name: str, script: str) -> None:
        (self.binaries / name).write_text(script)
        (self.binaries / name).chmod(0o755)

    async def create(self, password: str = "a password") -> None:
        await create_cluster(self.paths, self.binaries, self.cluster, password, self.log, self.announcements.append)

    async def set_password(self, password: str) -> None:
        await set_password(self.paths, self.binaries, self.cluster, password, self.log, self.announcements.append)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.install("initdb", INITDB)
    return made


async def test_it_is_made_once_with_the_password_and_nothing_of_that_is_left(folder: Folder) -> None:
    await folder.create()
    assert (folder.cluster / "seen-password").read_text() == "a password"
    assert not (folder.paths.home / "password").exists()
    assert folder.cluster.stat().st_mode & 0o077 == 0
    assert "a password" not in (folder.cluster / "caravan-password").read_text()
    folder.install("initdb", FAILING)
    await folder.create()
    assert len(folder.announcements) == 1


async def test_what_fails_half_way_leaves_no_folder_and_the_next_start_cleans_up(folder: Folder) -> None:
    folder.install("initdb", FAILING)
    with pytest.raises(StartError, match=r"initdb failed with code 1[^$]*no space left"):
        await folder.create()
    assert not folder.cluster.exists()
    assert not (folder.paths.home / "password").exists()
    half_made = folder.paths.home / "postgres.new-1"
    half_made.mkdir()
    folder.install("initdb", INITDB)
    await folder.create()
    assert folder.cluster.exists()
    assert list(folder.paths.home.glob("postgres.new-*")) == []


async def test_a_folder_of_another_version_is_never_touched(folder: Folder) -> None:
    folder.cluster.mkdir()
    (folder.cluster / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match=rf"made by Postgres 17, and this is {MAJOR}"):
        await folder.create()
    assert [path.name for path in folder.cluster.iterdir()] == ["PG_VERSION"]


async def test_the_password_is_set_only_when_it_is_another(folder: Folder) -> None:
    await folder.create("first")
    folder.install("postgres", '#!/bin/sh\ncat > "$3/statement"\n')
    await folder.set_password("first")
    assert not (folder.cluster / "statement").exists()
    await folder.set_password("second")
    assert (folder.cluster / "statement").read_text() == "ALTER ROLE postgres PASSWORD 'second'\n"
    (folder.cluster / "statement").unlink()
    await folder.set_password("second")
    assert not (folder.cluster / "statement").exists()


async def test_a_password_that_could_not_be_set_is_tried_again_at_the_next_start(folder: Folder) -> None:
    await folder.create("first")
    folder.install("postgres", "#!/bin/sh\necho 'ERROR:  nothing works'\n")
    for _ in range(2):
        with pytest.raises(StartError, match="nothing works"):
            await folder.set_password("second")


async def test_a_configuration_is_unchanged_only_as_it_was_written(folder: Folder) -> None:
    await folder.create()
    assert read_port(folder.cluster) is None
    write_configuration(folder.paths, folder.cluster, 21_000)
    assert read_port(folder.cluster) == 21_000
    assert is_unchanged(folder.cluster, "a password")
    assert not is_unchanged(folder.cluster, "another")
    for name in ("postgresql.conf", "pg_hba.conf"):
        with (folder.cluster / name).open("a") as file:
            file.write("# by hand\n")
        assert not is_unchanged(folder.cluster, "a password")
        write_configuration(folder.paths, folder.cluster, 21_000)
    assert is_unchanged(folder.cluster, "a password")


async def test_only_this_machine_with_a_password_may_connect(folder: Folder) -> None:
    await folder.create()
    write_configuration(folder.paths, folder.cluster, 21_000)
    assert {line.split()[-1] for line in (folder.cluster / "pg_hba.conf").read_text().splitlines()} == {"scram-sha-256"}
    assert "listen_addresses = '127.0.0.1'" in (folder.cluster / "postgresql.conf").read_text()
