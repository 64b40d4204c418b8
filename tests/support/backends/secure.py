"""A Kafka and a RabbitMQ, from native packages, that take TLS connections alone, as managed ones do.

A test's own, as its certificates are. Kafka wants a login on one listener and a client certificate on the other;
RabbitMQ wants both.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from caravan.bus.kafka_servers import KafkaServers
from caravan.tls import CertificateFiles, get_context
from tests.support.backends import Unavailable
from tests.support.backends.native import RABBITMQ, find_kafka_command, run_kafka, run_rabbitmq
from tests.support.backends.ready import free_ports
from tests.support.certificates import Authority

USER, PASSWORD = "shop", "a secret of the shop"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class SecureKafka:
    login_address: str
    certificate_address: str
    certificates: Path

    def build_servers(self, mechanism: str = "", password: str = PASSWORD) -> KafkaServers:
        """With a login by this mechanism, else with a client certificate."""
        files = CertificateFiles.find(self.certificates)
        if mechanism:
            ca = CertificateFiles(files.ca)
            return KafkaServers(self.login_address, "SASL_SSL", mechanism, USER, password, ca)
        return KafkaServers(self.certificate_address, "SSL", certificates=files)


@contextmanager
def secure_kafka(folder: Path, authority: Authority) -> Iterator[SecureKafka]:
    """Raises Unavailable where the packages are missing."""
    find_kafka_command()
    place = folder / "secure-kafka"
    server = authority.write_certificate(place / "server", "localhost", "127.0.0.1", user="kafka")
    client = authority.write_certificate(place / "client")
    keystore = server / "keystore.pem"
    keystore.write_bytes((server / "tls.key").read_bytes() + (server / "tls.crt").read_bytes())
    login, certificate, controller = free_ports(3)
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "listeners": f"LOGIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{certificate},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"LOGIN://localhost:{login},MUTUAL://localhost:{certificate}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "LOGIN:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "MUTUAL",
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "listener.name.login.plain.sasl.jaas.config": plain,
        "listener.name.login.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.login.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.mutual.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(server / "ca.crt"),
    }
    users = [f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in MECHANISMS[1:]]
    secure = SecureKafka(f"localhost:{login}", f"localhost:{certificate}", client)
    with run_kafka(place, properties, lambda: _kafka_answers(secure.build_servers()), scram_users=users):
        yield secure


def _kafka_answers(servers: KafkaServers) -> bool:
    host, _, port = servers.addresses.partition(":")
    try:
        with socket.create_connection((host, int(port)), 1):
            pass  # quiet while nothing listens; the client would log an error
        AdminClient(servers.build_librdkafka_settings()).list_topics(timeout=5)
        return True
    except (OSError, KafkaException):
        return False


@dataclass(frozen=True)
class SecureRabbitMQ:
    url: str
    management_url: str
    certificates: Path


@contextmanager
def secure_rabbitmq(folder: Path, authority: Authority) -> Iterator[SecureRabbitMQ]:
    """Raises Unavailable where the package is missing."""
    if not RABBITMQ.exists():
        raise Unavailable("the package rabbitmq-server is missing (make brokers)")
    place = folder / "secure-rabbitmq"
    server = authority.write_certificate(place / "server", "localhost", user="rabbitmq")
    client = authority.write_certificate(place / "client")
    amqp, management = free_ports(2)
    names = {"cacertfile": "ca.crt", "certfile": "tls.crt", "keyfile": "tls.key"}
    files = {option: str(server / name) for option, name in names.items()}
    configuration = {
        "listeners.tcp": "none",
        "listeners.ssl.1": f"127.0.0.1:{amqp}",
        **{f"ssl_options.{option}": file for option, file in files.items()},
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "management.ssl.ip": "127.0.0.1",
        "management.ssl.port": str(management),
        **{f"management.ssl.{option}": file for option, file in files.items()},
        "default_user": USER,
        "default_pass": PASSWORD.replace(" ", "-"),
    }
    login = f"{USER}:{PASSWORD.replace(' ', '-')}"
    secure = SecureRabbitMQ(f"amqps://{login}@localhost:{amqp}/", f"https://{login}@localhost:{management}", client)
    with run_rabbitmq(place, configuration, lambda: _rabbitmq_answers(secure)):
        yield secure


def _rabbitmq_answers(secure: SecureRabbitMQ) -> bool:
    context = get_context(CertificateFiles.find(secure.certificates))
    try:
        return httpx2.get(f"{secure.management_url}/api/overview", timeout=3, verify=context).status_code == 200
    except httpx2.HTTPError:
        return False
