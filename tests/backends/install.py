"""`make brokers`: install Kafka and RabbitMQ for the tests from native packages, where no container engine has them; says what it can't."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from tests.backends import Unavailable
from tests.backends.containers import IMAGES, ready
from tests.backends.native import JARS, KAFKA_VERSION, RABBITMQ

POLICY = Path("/usr/sbin/policy-rc.d")
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>caravan</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.3</version></dependency>
  </dependencies>
</project>
"""


def _run(arguments: list[str], seconds: float) -> None:
    done = subprocess.run(
        arguments, timeout=seconds, stdin=subprocess.DEVNULL, stdout=sys.stderr, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
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


def main() -> None:
    ways: dict[str, Callable[[], str]] = {"kafka": kafka, "rabbitmq": rabbitmq}
    for name, install in ways.items():
        if os.environ.get(f"TEST_{name.upper()}_URL"):
            print(f"{name}: TEST_{name.upper()}_URL names one")
            continue
        try:
            ready(IMAGES[name])
            print(f"{name}: the container image {IMAGES[name]} is here")
            continue
        except Unavailable as reason:
            print(f"{name}: no container ({reason})")
        try:
            print(f"{name}: {install()}")
        except (Unavailable, subprocess.TimeoutExpired) as reason:
            print(f"{name}: can't be installed: {reason}. Its tests will be skipped, unless TEST_{name.upper()}_URL names one")


if __name__ == "__main__":
    main()
