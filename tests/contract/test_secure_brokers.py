"""Every client of Kafka and RabbitMQ works with brokers that take TLS connections alone, and what is wrong with a
certificate or a login is told with the setting.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from caravan.bus import DONE, Bus, HandlingResult, Result, Subscription
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.topology import BrokerUnavailable, build_topology
from caravan.bus.topology import kafka as kafka_topology
from caravan.bus.topology import rabbitmq as rabbitmq_topology
from caravan.messages import Queue, Topic
from caravan.tls import CertificateFiles, complete_url
from tests.contract.bus_case import run_bus
from tests.contract.bus_messages import (
    Recorder,
    has_at_least,
    make_outgoing,
    make_queue,
    make_topic,
    read_message_number,
    run_consumers,
)
from tests.support.backends import Unavailable
from tests.support.backends.secure import MECHANISMS, SecureKafka, SecureRabbitMQ, secure_kafka, secure_rabbitmq
from tests.support.certificates import Authority, create_authority
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow
WRONG = "not-the-password"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecureKafka]:
    try:
        with secure_kafka(tmp_path_factory.mktemp("kafka"), authority) as secure:
            yield secure
    except Unavailable as reason:
        pytest.skip(f"no kafka with TLS: {reason}")


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecureRabbitMQ]:
    try:
        with secure_rabbitmq(tmp_path_factory.mktemp("rabbitmq"), authority) as secure:
            yield secure
    except Unavailable as reason:
        pytest.skip(f"no rabbitmq with TLS: {reason}")


@pytest.fixture
def rabbitmq_urls(rabbitmq: SecureRabbitMQ) -> tuple[str, str]:
    """As the settings complete them."""
    files = CertificateFiles.find(rabbitmq.certificates)
    return complete_url(rabbitmq.url, files), complete_url(rabbitmq.management_url, files)


async def use_everything(bus: Bus, channel: Topic | Queue, subscription: Subscription) -> None:
    """Publishes, consumes, gives up a message, counts, lists and redrives."""
    await bus.declare_channels([channel], [subscription])
    is_poison = True
    recorder = Recorder(
        lambda i: HandlingResult(Result.DEAD, "poison") if is_poison and read_message_number(i) == 1 else DONE
    )
    async with run_consumers(bus, (subscription, recorder.process_batch)):
        await bus.publish([make_outgoing(channel, number, f"key-{number}") for number in range(3)])
        dead_letters = await wait_until(lambda: bus.list_dead_letters([subscription]), seconds=30)
        is_poison = False
        assert await bus.redrive(dead_letters) == 1
        await wait_until(lambda: has_at_least(recorder, 3), seconds=30)

        async def has_read_everything() -> bool:
            return await bus.measure_lag([subscription]) == {subscription.name: 0}

        await wait_until(has_read_everything, seconds=30)


@pytest.mark.parametrize("mechanism", [*MECHANISMS, ""], ids=[*MECHANISMS, "certificate"])
async def test_kafka_by_tls(kafka: SecureKafka, mechanism: str) -> None:
    servers, topic = kafka.build_servers(mechanism), make_topic()
    subscription = Subscription("reader", topic, batch=20)
    bus = KafkaBus(servers, "tls")
    async with run_bus(bus):
        await use_everything(bus, topic, subscription)
        assert await bus.find_missing([topic], [subscription]) == []
    declared = build_topology([topic], [subscription])
    topics = tuple(replace(one, config={**one.config, "retention.ms": "86400000"}) for one in declared.topics)
    changes = (await kafka_topology.apply_topology(servers, replace(declared, topics=topics))).changes
    assert f"topic {topic.name}: retention.ms = 86400000" in changes, "by librdkafka"


async def test_rabbitmq_by_tls(rabbitmq_urls: tuple[str, str]) -> None:
    url, management = rabbitmq_urls
    queue = make_queue()
    subscription = Subscription("reader", queue, batch=20)
    bus = RabbitBus(url, "tls", management=management)
    async with run_bus(bus):
        await use_everything(bus, queue, subscription)
        assert await bus.find_missing([queue], [subscription]) == []


def fail_on_kafka(kafka: SecureKafka, tmp_path: Path, case: str) -> KafkaServers:
    login, certificate = kafka.build_servers("SCRAM-SHA-512"), kafka.build_servers()
    other = CertificateFiles(str(create_authority("another").write_ca(tmp_path)))
    return {
        "password": replace(login, password=WRONG),
        "plain password": replace(login, sasl_mechanism="PLAIN", password=WRONG),
        "ca": replace(login, certificates=other),
        "no certificate": replace(certificate, certificates=CertificateFiles(certificate.certificates.ca)),
        "no TLS": KafkaServers(login.addresses),
        "no login": replace(login, protocol="SSL"),
    }[case]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("password", r"CARAVAN_KAFKA_USERNAME and CARAVAN_KAFKA_PASSWORD are refused \(SCRAM-SHA-512\)"),
        ("plain password", r"CARAVAN_KAFKA_USERNAME and CARAVAN_KAFKA_PASSWORD are refused \(PLAIN\)"),
        ("ca", r"CARAVAN_KAFKA_URL: the server's certificate is refused: .*; its CA must be in "),
        ("no certificate", r"PROTOCOL=SSL\? Or does it want a client certificate \(tls.crt and tls.key"),
        ("no TLS", "does it expect CARAVAN_KAFKA_PROTOCOL=PLAINTEXT"),
        ("no login", "does it expect CARAVAN_KAFKA_PROTOCOL=SSL"),
    ],
)
async def test_what_is_wrong_with_kafka_is_named(kafka: SecureKafka, tmp_path: Path, case: str, words: str) -> None:
    servers = fail_on_kafka(kafka, tmp_path, case)
    bus = KafkaBus(servers, "tls")
    try:
        with pytest.raises(ConnectionError, match=words) as raised:
            await bus.start()
        assert WRONG not in str(raised.value)
    finally:
        await bus.close()
    with pytest.raises(BrokerUnavailable, match=words):
        await kafka_topology.find_missing(servers, build_topology([make_topic()], []))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("password", "RabbitMQ refuses the user or the password of CARAVAN_RABBITMQ_URL"),
        ("ca", r"CARAVAN_RABBITMQ_URL: the server's certificate is refused: .*; its CA must be in "),
        ("host", "not valid for '127.0.0.1'; name the server as its certificate does"),
        ("no certificate", r"does it want a client certificate \(tls.crt and tls.key|refuses what this client shows"),
    ],
)
async def test_what_is_wrong_with_rabbitmq_is_named(
    rabbitmq: SecureRabbitMQ, rabbitmq_urls: tuple[str, str], tmp_path: Path, case: str, words: str
) -> None:
    files = CertificateFiles.find(rabbitmq.certificates)
    other = replace(files, ca=str(create_authority("another").write_ca(tmp_path)))
    url = {
        "password": str(httpx2.URL(rabbitmq_urls[0]).copy_with(password=WRONG)),
        "ca": complete_url(rabbitmq.url, other),
        "host": rabbitmq_urls[0].replace("localhost", "127.0.0.1"),
        "no certificate": complete_url(rabbitmq.url, CertificateFiles(files.ca)),
    }[case]
    bus = RabbitBus(url, "tls")
    try:
        with pytest.raises(ConnectionError, match=words) as raised:
            await bus.start()
        assert WRONG not in str(raised.value)
    finally:
        await bus.close()


async def test_what_is_wrong_with_the_management_api_is_named(
    rabbitmq: SecureRabbitMQ, rabbitmq_urls: tuple[str, str], tmp_path: Path
) -> None:
    other = CertificateFiles(str(create_authority("another").write_ca(tmp_path)))
    words = "CARAVAN_RABBITMQ_MANAGEMENT_URL: the server's certificate is refused: .*; its CA must be in "
    with pytest.raises(BrokerUnavailable, match=words):
        await rabbitmq_topology.observe_objects(complete_url(rabbitmq.management_url, other), rabbitmq_urls[0])
