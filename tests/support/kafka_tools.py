"""Kafka's own command line tools, wherever the broker of the tests comes from: in its container, on the PATH, or in the
jars of the native one.
"""

import shutil
import subprocess

import pytest

from tests.support.backends.native import JARS

TOOL_CLASSES = {
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}


def build_tool_command(name: str, servers: str) -> list[str]:
    """The command `name` (`kafka-console-consumer`) against these servers, to be followed by its options. Skips the
    test where there is none.
    """
    broker = ["--bootstrap-server", servers]
    if container := _find_container(servers.rpartition(":")[2]):
        return ["docker", "exec", container, f"/opt/kafka/bin/{name}.sh", *broker]
    if path := shutil.which(f"{name}.sh") or shutil.which(name):
        return [path, *broker]
    if shutil.which("java") and any(JARS.glob("kafka-tools-[0-9]*.jar")):
        # Without a logging configuration it would log to standard output, among the messages.
        return [
            "java",
            "-Xmx256m",
            "-Dorg.apache.logging.log4j.level=OFF",
            "-Dlog4j2.level=OFF",
            "-cp",
            f"{JARS}/*",
            TOOL_CLASSES[name],
            *broker,
        ]
    pytest.skip(f"no {name}: neither a Kafka container, nor the tool on the PATH, nor the jars (make brokers)")


def _find_container(port: str) -> str:
    """The container that publishes this port; nothing when no engine answers."""
    if not shutil.which("docker"):
        return ""
    completed = subprocess.run(
        ["docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
        stdin=subprocess.DEVNULL,
    )
    return completed.stdout.strip().partition("\n")[0] if completed.returncode == 0 else ""
