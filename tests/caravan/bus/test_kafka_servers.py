"""How each client library is told of a Kafka: TLS and login as the protocol says, and no password where one might read
it.
"""

from pathlib import Path

import pytest

from caravan.bus.kafka_servers import KafkaServers
from caravan.tls import CertificateFiles, get_context
from tests.support.certificates import create_authority

ADDRESSES = "kafka-0.test:9093,kafka-1.test:9093"


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles.find(create_authority().write_certificate(tmp_path))


def test_without_more_a_connection_is_plain() -> None:
    servers = KafkaServers(ADDRESSES)
    assert servers.build_client_arguments() == {"bootstrap_servers": ADDRESSES, "security_protocol": "PLAINTEXT"}
    assert servers.build_librdkafka_settings() == {
        "bootstrap.servers": ADDRESSES,
        "security.protocol": "PLAINTEXT",
    }


def test_a_client_certificate_is_shown_by_both_libraries(files: CertificateFiles) -> None:
    servers = KafkaServers(ADDRESSES, "SSL", certificates=files)
    assert servers.build_client_arguments() == {
        "bootstrap_servers": ADDRESSES,
        "security_protocol": "SSL",
        "ssl_context": get_context(files),
    }
    assert servers.build_librdkafka_settings() == {
        "bootstrap.servers": ADDRESSES,
        "security.protocol": "SSL",
        "ssl.ca.location": files.ca,
        "ssl.certificate.location": files.certificate,
        "ssl.key.location": files.key,
    }


def test_a_login_goes_with_a_sasl_protocol() -> None:
    servers = KafkaServers(ADDRESSES, "SASL_SSL", "SCRAM-SHA-512", "shop", "a secret")
    assert servers.build_client_arguments() == {
        "bootstrap_servers": ADDRESSES,
        "security_protocol": "SASL_SSL",
        "ssl_context": get_context(CertificateFiles()),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "shop",
        "sasl_plain_password": "a secret",
    }
    assert servers.build_librdkafka_settings() == {
        "bootstrap.servers": ADDRESSES,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "shop",
        "sasl.password": "a secret",
    }
    assert servers.build_connection_arguments().keys() == servers.build_client_arguments().keys() - {
        "bootstrap_servers"
    }


def test_no_text_of_it_holds_the_password() -> None:
    servers = KafkaServers(ADDRESSES, "SASL_SSL", "PLAIN", "shop", "a secret")
    assert str(servers) == ADDRESSES
    assert "a secret" not in repr(servers)
