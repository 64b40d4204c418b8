"""Installs for the tests, and says what it can't: `make brokers` Kafka and RabbitMQ from native packages, where no
container engine has them, PgBouncer, and what shifts the clock of a process; `make brokers NATIVE=yes` the native
packages in any case; `make chromium` a browser.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

from tests.support.backends import Unavailable
from tests.support.backends.containers import IMAGES, ready
from tests.support.backends.native import JARS, KAFKA_VERSION, RABBITMQ, find_faketime
from tests.support.backends.pgbouncer import BUILT, program

POLICY = Path("/usr/sbin/policy-rc.d")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEWER = "trixie"
"""The first Debian whose PgBouncer is new enough."""
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>caravan</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.3</version></dependency>
  </dependencies>
</project>
"""


def _run(arguments: list[str], seconds: float, folder: Path | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        arguments,
        check=False,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env=environment,
        cwd=folder,
    )
    if done.returncode:
        raise Unavailable(f"`{' '.join(arguments)}` failed, see above")


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Debian starts a server when it is installed, unless a policy says no; the tests start their own node."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink()


def _packages(*names: str) -> None:
    if not which("apt-get") or os.geteuid() != 0:
        raise Unavailable(f"not root on Debian or Ubuntu; install {', '.join(names)} yourself")
    with _services_stay_down():
        _run(["apt-get", "-qq", "update"], 180)
        _run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *names], 600)


def kafka() -> str:
    if not which("java"):
        _packages("default-jre-headless")
    if all((JARS / name).exists() for name in (f"kafka_2.13-{KAFKA_VERSION}.jar", f"kafka-tools-{KAFKA_VERSION}.jar")):
        return f"is in {JARS}"
    if not which("mvn"):
        _packages("maven")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pom.xml").write_text(POM)
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        _run(["mvn", "-B", "-q", "-C", "-f", folder, copy, "-DincludeScope=runtime", f"-DoutputDirectory={JARS}"], 600)
    return f"fetched into {JARS}"


def rabbitmq() -> str:
    if RABBITMQ.exists():
        return f"is {RABBITMQ}"
    _packages("rabbitmq-server")
    return "installed"


def pgbouncer() -> str:
    """The system's package; where that is too old, the source of Debian's next one, built for the tests alone."""
    with suppress(Unavailable):
        return f"is {program()}"
    _packages("pgbouncer")
    with suppress(Unavailable):
        return f"installed, {program()}"
    _build_pgbouncer()
    return f"built, {program()}"


def faketime() -> str:
    if not find_faketime():
        _packages("libfaketime")
    return f"is {find_faketime()}"


def _build_pgbouncer() -> None:
    _packages("gcc", "make", "libc6-dev", "pkg-config", "libevent-dev", "libssl-dev", "dpkg-dev")
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    mirrors = subprocess.run(
        targets, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL
    ).stdout.split()
    if not mirrors or not KEYRING.exists():
        raise Unavailable("the system's PgBouncer is too old, and this isn't Debian; install 1.21 or newer yourself")
    mirror = next((one for one in mirrors if "security" not in one), mirrors[0])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "lists" / "partial").mkdir(parents=True)
        (place / "sources.list").write_text(f"deb-src [signed-by={KEYRING}] {mirror} {NEWER} main\n")
        options = {
            "Dir::Etc::sourcelist": "sources.list",
            "Dir::Etc::sourceparts": "none",
            "Dir::State::lists": "lists",
        }
        apart = [
            f"-o{name}={place / value}" for name, value in options.items()
        ]  # the system's own lists stay as they are
        _run(["apt-get", "-qq", *apart, "-oAPT::Sandbox::User=root", "update"], 180)
        _run(["apt-get", "-qq", *apart, "-oAPT::Sandbox::User=root", "source", "pgbouncer"], 180, place)
        (source,) = (found for found in place.glob("pgbouncer-*") if found.is_dir())
        _run(["./configure", "--without-cares"], 180, source)
        _run(["make", "pgbouncer"], 300, source)
        BUILT.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "pgbouncer", BUILT)


def chromium() -> str:
    if found := which("chromium") or which("chromium-browser"):
        return f"is {found}"
    _packages("chromium", "fonts-dejavu-core")
    return "installed"


def main() -> None:
    if sys.argv[1:] == ["chromium"]:
        _tell("chromium", chromium)
        return
    ways: dict[str, Callable[[], str]] = {"kafka": kafka, "rabbitmq": rabbitmq}
    for name, install in ways.items():
        if os.environ.get(f"TEST_{name.upper()}_URL"):
            print(f"{name}: TEST_{name.upper()}_URL names one")
            continue
        try:
            if sys.argv[1:] == ["native"]:
                raise Unavailable("a native one is asked for")
            ready(IMAGES[name])
            print(f"{name}: the container image {IMAGES[name]} is here")
            continue
        except Unavailable as reason:
            print(f"{name}: no container ({reason})")
        _tell(name, install)
    _tell("pgbouncer", pgbouncer)
    _tell("libfaketime", faketime)


def _tell(name: str, install: Callable[[], str]) -> None:
    try:
        print(f"{name}: {install()}")
    except (Unavailable, subprocess.TimeoutExpired) as reason:
        hint = "" if name in ("pgbouncer", "libfaketime", "chromium") else f", unless TEST_{name.upper()}_URL names one"
        print(f"{name}: can't be installed: {reason}. Its tests will be skipped{hint}")


if __name__ == "__main__":
    main()
