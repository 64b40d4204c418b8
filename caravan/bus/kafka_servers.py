"""The Kafka that a process uses: its addresses, TLS and login, as the arguments of each client library.

`caravan/bus/kafka` and `caravan/bus/topology/kafka.py` make every client of Kafka with them.
"""

from dataclasses import dataclass, field
from typing import Any, Self

from caravan.settings import Settings
from caravan.tls import CertificateFiles, get_context


@dataclass(frozen=True, slots=True)
class KafkaServers:
    addresses: str
    protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    certificates: CertificateFiles = field(default_factory=CertificateFiles)

    @classmethod
    def from_settings(cls, kernel_settings: Settings) -> Self:
        return cls(
            kernel_settings.kafka_url,
            kernel_settings.kafka_protocol,
            kernel_settings.kafka_sasl_mechanism,
            kernel_settings.kafka_username,
            kernel_settings.kafka_password.get_secret_value() if kernel_settings.kafka_password else "",
            kernel_settings.kafka_certificates,
        )

    def __str__(self) -> str:
        return self.addresses

    @property
    def has_tls(self) -> bool:
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def has_login(self) -> bool:
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def build_client_arguments(self) -> dict[str, Any]:
        """For aiokafka's consumer, producer and admin client."""
        return {"bootstrap_servers": self.addresses, **self.build_connection_arguments()}

    def build_connection_arguments(self) -> dict[str, Any]:
        """For one connection of aiokafka."""
        arguments: dict[str, Any] = {"security_protocol": self.protocol}
        if self.has_tls:
            arguments["ssl_context"] = get_context(self.certificates)
        if self.has_login:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments

    def build_librdkafka_settings(self) -> dict[str, str]:
        settings = {"bootstrap.servers": self.addresses, "security.protocol": self.protocol}
        if self.has_tls:
            files = {
                "ssl.ca.location": self.certificates.ca,
                "ssl.certificate.location": self.certificates.certificate,
                "ssl.key.location": self.certificates.key,
            }
            settings |= {name: file for name, file in files.items() if file}
        if self.has_login:
            settings |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        return settings
