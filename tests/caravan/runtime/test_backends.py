"""Where a process keeps things: passwords and URLs of databases, their migrations, and the bus and discovery that the
settings choose.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from caravan.bus.brokers import BrokerBus
from caravan.bus.embedded import EmbeddedBus
from caravan.database import Database
from caravan.database.migrations import NotMigrated
from caravan.discovery import DatabaseDiscovery, DnsDiscovery, SnapshotDiscovery
from caravan.environment import SettingsError
from caravan.leadership import Leadership
from caravan.runtime import BUS, Backends, check_migrations, list_subscriptions, run_migrations
from caravan.runtime.backends import choose_bus, choose_discovery, list_consumers
from caravan.service import Service
from caravan.settings import Settings
from services.registry import load_services

BACKENDS = Backends("postgresql://admin:word@db:5432/postgres", "redis://cache/0", "s" * 40)


def test_each_database_has_a_password_of_its_own_that_is_the_same_in_each_process() -> None:
    passwords = [BACKENDS.get_password(name) for name in ("orders", "orders_read", "bus")]
    assert len(set(passwords)) == 3
    assert BACKENDS.get_password("orders") == passwords[0]
    assert Backends("", "", "t" * 40).get_password("orders") != passwords[0]
    url = BACKENDS.get_database_url("orders")
    assert passwords[0] in url
    assert "word" not in url.replace(passwords[0], ""), "nobody gets the administrator's"


def test_a_folder_of_passwords_counts_before_the_secret_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "orders").write_text("from a file\n")
    backends = Backends("", "", "s" * 40, passwords_folder=tmp_path)
    assert backends.get_password("orders") == "from a file"
    with pytest.raises(SettingsError, match="CARAVAN_DATABASE_PASSWORDS: no password for the database payments"):
        backends.get_password("payments")


async def test_migrating_makes_the_databases_once_and_until_then_it_says_what_is_missing(backends: Backends) -> None:
    services = load_services(["shipping"])
    with pytest.raises((NotMigrated, ConnectionError)):
        await check_migrations(services, backends)
    made = await run_migrations(services, backends)
    assert made.keys() == {BUS, *(declared.name for service in services for declared in service.databases)}
    await check_migrations(services, backends)
    assert await run_migrations(services, backends) == {}


def choose(**settings: Any) -> tuple[object, object]:
    database = Database.__new__(Database)  # never asked here
    leadership = Leadership("postgresql://nowhere/bus", BUS)
    kernel_settings = Settings(**settings)
    return choose_bus(kernel_settings, database, leadership), choose_discovery(kernel_settings, database)


@pytest.mark.parametrize(
    ("settings", "bus", "discovery"),
    [
        ({}, EmbeddedBus, DatabaseDiscovery),
        ({"kafka_url": "kafka:9092", "rabbitmq_url": "amqp://rabbitmq"}, BrokerBus, DatabaseDiscovery),
        ({"discovery": "http://{service}:8080"}, EmbeddedBus, DnsDiscovery),
        ({"registry_file": "/snapshot.json"}, EmbeddedBus, SnapshotDiscovery),
        ({"registry_url": "http://operator"}, EmbeddedBus, SnapshotDiscovery),
    ],
)
def test_the_settings_choose_bus_and_discovery(settings: dict[str, Any], bus: type, discovery: type) -> None:
    selected = choose(**settings)
    assert (type(selected[0]), type(selected[1])) == (bus, discovery)


def test_a_service_without_consumers_has_no_subscription_and_each_handler_has_one() -> None:
    silent, (shipping,) = Service("silent"), load_services(["shipping"])
    assert list_consumers(silent) == []
    subscriptions = list_subscriptions([silent, shipping])
    assert {subscription.service for subscription in subscriptions} == {"shipping"}
    assert len(subscriptions) == len(list_consumers(shipping)) > 0


async def test_a_refused_administrator_is_told_with_the_setting(backends: Backends) -> None:
    password = urlsplit(backends.database_url).password or ""
    wrong = replace(backends, database_url=backends.database_url.replace(password, "not-the-password"))
    with pytest.raises(SettingsError, match="CARAVAN_DATABASE_URL: Postgres refuses its user: password auth") as raised:
        await run_migrations(load_services(["catalog"]), wrong)
    assert "not-the-password" not in str(raised.value)


BROKER_CLIENTS = ("faststream", "fast_depends", "aiokafka", "aio_pika", "aiormq")
PROGRAM = f"""
import sys
import cli.__main__, cli.serve
from caravan.bus.embedded import EmbeddedBus
from caravan.runtime.backends import choose_bus
from caravan.settings import Settings
from services.registry import load_services

load_services()
assert isinstance(choose_bus(Settings(), None, None), EmbeddedBus)
print([name for name in {BROKER_CLIENTS} if name in sys.modules])
"""


def test_a_process_without_brokers_loads_no_client_of_theirs() -> None:
    """They take memory, and time at its start."""
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120, env={"PATH": ""}
    )
    assert completed.returncode == 0, completed.stderr[-2000:]
    assert completed.stdout.strip() == "[]"
