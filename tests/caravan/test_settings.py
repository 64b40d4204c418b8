"""Where settings come from: the environment, and in containers files that hold one secret each."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caravan import environment, settings
from cli import app
from services.notifications.settings import Settings as NotificationSettings
from services.registry import SERVICES, load_settings_classes

SECRET = "a secret of more than thirty-two characters"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "SECRETS", tmp_path)
    for name in ("CARAVAN_SECRET", "CARAVAN_REDIS_URL", "NOTIFICATIONS_SMTP_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_secret_may_be_a_file_named_like_its_variable(folder: Path) -> None:
    (folder / "CARAVAN_SECRET").write_text(SECRET + "\n")
    (folder / "NOTIFICATIONS_SMTP_URL").write_text("smtp://mail:1025")
    kernel = settings.load_kernel()
    assert kernel.secret is not None
    assert kernel.secret.get_secret_value() == SECRET
    own = environment.load_class(NotificationSettings).smtp_url
    assert own is not None
    assert own.get_secret_value() == "smtp://mail:1025"


def test_the_environment_wins_over_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "CARAVAN_REDIS_URL").write_text("redis://file")
    monkeypatch.setenv("CARAVAN_REDIS_URL", "redis://environment")
    url = settings.load_kernel().redis_url
    assert url is not None
    assert url.get_secret_value() == "redis://environment"


def test_a_wrong_file_is_named_like_its_variable_and_its_content_stays_unsaid(folder: Path) -> None:
    (folder / "CARAVAN_SECRET").write_text("short")
    with pytest.raises(environment.SettingsError, match=r"^CARAVAN_SECRET: must have at least 32 characters$") as error:
        settings.load_kernel()
    assert "short" not in str(error.value).replace("too_short", "")


@pytest.mark.parametrize("command", [["up"], ["run", "orders"], ["run", "all"], ["migrate"]])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "ORDERS_CUSTOMER_STATUS_SECOND",
            "5",
            "ORDERS_CUSTOMER_STATUS_SECOND: no such setting; did you mean ORDERS_CUSTOMER_STATUS_SECONDS?",
        ),
        (
            "orders_customer_status_second",
            "5",
            "orders_customer_status_second: no such setting; did you mean ORDERS_CUSTOMER_STATUS_SECONDS?",
        ),
        ("GATEWAY_NOTHING_LIKE_IT", "", "GATEWAY_NOTHING_LIKE_IT: no such setting"),
        ("CARAVAN_PROT", "1", "CARAVAN_PROT: no such setting; did you mean CARAVAN_PORT?"),
        ("ORDERS_CUSTOMER_STATUS_SECONDS", "soon", "ORDERS_CUSTOMER_STATUS_SECONDS: "),
        ("CARAVAN_PORT", "ninety", "CARAVAN_PORT: "),
    ],
)
def test_a_misspelt_or_wrong_setting_of_any_service_ends_a_start_before_it_begins(
    command: list[str], name: str, value: str, message: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    result = CliRunner().invoke(app, command, env={"CARAVAN_DATA": str(data), name: value})
    assert result.exit_code == 2 and message in result.output, result.output
    assert not data.exists(), "nothing was started"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        *(
            ("CARAVAN_ADMIN_PASSWORD", password, "easily guessed")
            for password in (
                "password1234",
                "123456789012",
                "admin@caravan.local",
                "caravan-admin",
                "qwertyuiop12",
                "aaaaaaaaaaaaaaaa",
            )
        ),
        *(
            ("CARAVAN_ADMIN_PASSWORD", password, "must have 12 to 128 characters, without control characters")
            for password in (
                "elevenchars",
                "tab\tin a long one",
                "a line\nand another",
                "ends with a line\n",
                "x y" * 43,
                "\x85 in a long one",
            )
        ),
        ("CARAVAN_ADMIN_EMAIL", "admin", "must be an e-mail address"),
        ("CARAVAN_ADMIN_EMAIL", f"{'a' * 65}@caravan.local", "too long before the @"),
    ],
)
@pytest.mark.parametrize("command", [["up"], ["run", "identity"], ["migrate"]])
def test_the_admin_of_the_settings_follows_the_rules_of_all_users(
    command: list[str], name: str, value: str, rule: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    result = CliRunner().invoke(app, command, env={"CARAVAN_DATA": str(data), name: value})
    assert result.exit_code == 2 and f"{name}: " in result.output and rule in " ".join(result.output.split()), (
        result.output
    )
    assert name == "CARAVAN_ADMIN_EMAIL" or value not in result.output
    assert not data.exists(), "nothing was started"


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    wrong = {
        "CATALOG_X": "1",
        "GATEWAY_TIMEOUT_SECONDS": "-1",
        "CARAVAN_POOL_SIZE": "0",
        "CARAVAN_DATA": str(tmp_path / "data"),
    }
    output = CliRunner().invoke(app, ["up"], env=wrong | {"CARAVAN_DATA": str(tmp_path / "data")}).output
    assert all(f"{name}: " in output for name in ("CATALOG_X", "GATEWAY_TIMEOUT_SECONDS", "CARAVAN_POOL_SIZE"))


def test_a_misspelt_file_of_a_secret_is_refused_and_others_in_its_folder_are_not(folder: Path) -> None:
    (folder / "databases").mkdir()
    (folder / "rootca.crt").write_text("not ours")
    environment.refuse_unknown([settings.Settings, *load_settings_classes()], {})
    (folder / "NOTIFICATIONS_SMTP_ULR").write_text("smtp://mail:1025")
    with pytest.raises(environment.SettingsError, match=r"NOTIFICATIONS_SMTP_ULR: .*NOTIFICATIONS_SMTP_URL\?") as error:
        environment.refuse_unknown(load_settings_classes(), {})
    assert "smtp://" not in str(error.value)


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_settings_are_found_without_the_service_and_have_its_prefix(name: str) -> None:
    (kind,) = load_settings_classes([name])
    assert import_module(f"services.{name}.main").service.settings is kind
    assert kind.model_config["env_prefix"] == f"{name.upper()}_"


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "CARAVAN_DATABASE_URL",
            ("mysql://h/x", "hello", "postgresql:///x", "postgresql://u:pa55word@h:x/d", "postgresql://h:99999/d"),
            "postgresql://",
        ),
        ("CARAVAN_REDIS_URL", ("http://h", "h:6379", "redis://", "redis://:pa55word@h:6379/zero"), "redis://|/0"),
        ("CARAVAN_JOBS_REDIS_URL", ("redis://:pa55word@h:99999/0", "amqp://h"), "redis"),
        ("CARAVAN_RABBITMQ_MANAGEMENT_URL", ("rabbit:15672", "amqp://u:pa55word@h"), "http://"),
        ("CARAVAN_PUBLIC_URL", ("shop.example", "javascript:alert(1)", "https://", "https://shop example"), "http://"),
        ("CARAVAN_OTLP_ENDPOINT", ("collector:4318", "grpc://collector:4317"), "http://"),
        ("CARAVAN_REGISTRY_URL", ("ftp://operator/v1", "http://"), "http://"),
        (
            "CARAVAN_DISCOVERY",
            ("http://orders:8080", "{service}", "http://{servise}:8080", "http://{service}-{zone}:80"),
            "{service}|http://",
        ),
        ("CARAVAN_ADMIN_EMAIL", ("admin", "a@b@c.example", "a b@c.example"), "e-mail"),
        ("CARAVAN_FAILPOINT", ("relay.before_send:x", "relay.before_send:-1", "relay.before_send:0"), ""),
        ("CATALOG_OPERATOR_EMAIL", ("desk",), "e-mail"),
        ("NOTIFICATIONS_SENDER", ("Shop <a..b@shop.example>",), "e-mail"),
        ("GATEWAY_SERVICES", ("order,identity", ","), "orders"),
        ("PAYMENTS_RETRY_SECONDS", ("soon", "1,3", "[-1]", "[NaN]", "[1e999]"), ""),
        ("PAYMENTS_REQUERY_SECONDS", ("inf", "nan"), ""),
        ("PAYMENTS_HOLD_SECONDS", ("inf",), "finite"),
        ("PAYMENTS_CURRENCY", ("XXX",), "currency"),
    ],
)
def test_a_value_that_can_never_work_is_refused_before_anything_starts(
    name: str, values: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for value in values:
        result = CliRunner().invoke(app, ["run", "all"], env={"CARAVAN_DATA": str(data), name: value})
        assert result.exit_code == 2 and re.search(rf"^{name}[^:]*: .*({message})", result.output), (
            value,
            result.output,
        )
        assert "pa55word" not in result.output
        assert "Value error" not in result.output
        assert not data.exists(), "nothing was started"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CARAVAN_DATABASE_URL", "postgresql:///postgres?host=/run/postgresql"),
        ("CARAVAN_DATABASE_URL", "postgres://u:p%40ss@[::1]:5432/postgres"),
        ("CARAVAN_REDIS_URL", "rediss://default:p@cache.example:6380/15"),
        ("CARAVAN_REDIS_URL", "redis://cache"),
        ("CARAVAN_REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("CARAVAN_REDIS_URL", ""),
        ("CARAVAN_DISCOVERY", "http://shop-{service}.eu.svc.cluster.local:8080"),
        ("CARAVAN_OTLP_ENDPOINT", "https://otel.example/v1"),
        ("CARAVAN_ADMIN_EMAIL", "root@localhost"),
        ("CARAVAN_FAILPOINT", "relay.before_send:3"),
    ],
)
def test_every_usual_way_to_write_an_address_is_taken(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    settings.load_kernel()


@pytest.mark.parametrize(
    ("brokers", "good"),
    [
        ("k:9092", True),
        ("k-0.kafka:9092, [::1]:9092", True),
        ("k", False),
        ("kafka://k:9092", False),
        ("k:9092,", False),
    ],
)
def test_brokers_are_named_with_their_ports(brokers: str, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_KAFKA_URL", brokers)
    monkeypatch.setenv("CARAVAN_RABBITMQ_URL", "amqp://u:p@h/")
    if good:
        settings.load_kernel()
    else:
        with pytest.raises(environment.SettingsError, match=r"^CARAVAN_KAFKA_URL: .*ports"):
            settings.load_kernel()
