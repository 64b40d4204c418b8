"""Settings of databases and brokers that belong together: certificates with TLS, a login with its protocol."""

from collections.abc import Callable
from pathlib import Path

import pytest

from caravan.bus.kafka_servers import KafkaServers
from caravan.environment import SettingsError
from caravan.settings import Settings, load_kernel
from caravan.tls import CertificateFiles
from tests.support.certificates import create_authority

LoadSettings = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> LoadSettings:
    def load_with(**values: str) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"CARAVAN_{name.upper()}", value)
        return load_kernel()

    return load_with


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    authority = create_authority()
    authority.write_certificate(tmp_path / "redis")
    authority.write_ca(tmp_path / "database")
    authority.write_ca(tmp_path / "rabbitmq")
    authority.write_ca(tmp_path / "kafka")
    (tmp_path / "..data").mkdir()  # as Kubernetes has it
    return tmp_path


def test_urls_come_out_with_the_certificates_of_their_server(load: LoadSettings, certificates: Path) -> None:
    loaded = load(
        certificates=str(certificates),
        database_url="postgresql://db.test/postgres",
        redis_url="rediss://:secret@redis.test",
        jobs_redis_url="redis://jobs.test",
        kafka_url="kafka.test:9093",
        kafka_protocol="SASL_SSL",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_username="shop",
        kafka_password="a secret",
        rabbitmq_url="amqps://u:p@rabbit.test/",
        rabbitmq_management_url="https://u:p@rabbit.test",
    )
    urls = (
        loaded.database_url,
        loaded.redis_url,
        loaded.jobs_redis_url,
        loaded.rabbitmq_url,
        loaded.rabbitmq_management_url,
    )
    assert [CertificateFiles.from_url(url.get_secret_value()) for url in urls if url] == [
        CertificateFiles(f"{certificates}/database/ca.crt"),
        CertificateFiles.find(certificates / "redis"),
        CertificateFiles(),
        CertificateFiles(f"{certificates}/rabbitmq/ca.crt"),
        CertificateFiles(f"{certificates}/rabbitmq/ca.crt"),
    ]
    assert KafkaServers.from_settings(loaded) == KafkaServers(
        "kafka.test:9093",
        "SASL_SSL",
        "SCRAM-SHA-512",
        "shop",
        "a secret",
        CertificateFiles(f"{certificates}/kafka/ca.crt"),
    )
    assert "a secret" not in repr(loaded)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"redis_url": "redis://r"}, "CARAVAN_REDIS_URL: must begin with rediss://"),
        ({"rabbitmq_url": "amqp://r"}, "CARAVAN_RABBITMQ_URL: must begin with amqps://"),
        ({"database_url": "postgresql://h/d?sslmode=disable"}, "CARAVAN_DATABASE_URL: must have sslmode=verify-full"),
        ({}, "CARAVAN_KAFKA_PROTOCOL must be SSL or SASL_SSL"),
        (
            {"kafka_protocol": "SASL_SSL", "kafka_username": "u"},
            "needs CARAVAN_KAFKA_SASL_MECHANISM and ",
        ),
        (
            {"kafka_protocol": "SSL", "kafka_password": "p"},
            "CARAVAN_KAFKA_PASSWORD: CARAVAN_KAFKA_PROTOCOL must",
        ),
    ],
)
def test_what_doesnt_belong_together_is_named(
    load: LoadSettings, certificates: Path, values: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        load(certificates=str(certificates), **values)


def test_a_folder_of_certificates_has_what_it_should(load: LoadSettings, certificates: Path) -> None:
    def fail() -> str:
        with pytest.raises(SettingsError) as error:
            load(certificates=str(certificates), kafka_protocol="SSL")
        return str(error.value)

    (certificates / "kafak").mkdir()
    assert "CARAVAN_CERTIFICATES: has kafak, and may have database, jobs-redis, kafka" in fail()
    (certificates / "kafak").rename(certificates / "jobs-redis")
    assert "CARAVAN_CERTIFICATES: has nothing in jobs-redis" in fail()
    (certificates / "jobs-redis").rmdir()
    (certificates / "redis" / "tls.key").write_text("broken")
    assert f"CARAVAN_CERTIFICATES: {certificates}/redis/tls.crt and " in fail()
    with pytest.raises(SettingsError, match="must be a folder that is there"):
        load(certificates=str(certificates / "nowhere"))
