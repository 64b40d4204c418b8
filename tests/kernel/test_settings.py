"""Where settings come from: the environment, and in containers files that hold one secret each."""

from pathlib import Path

import pytest

from caravan import settings
from services.notifications.settings import Settings as NotificationSettings

SECRET = "a secret of more than thirty-two characters"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "SECRETS", tmp_path)
    for name in ("CARAVAN_SECRET", "CARAVAN_REDIS_URL", "NOTIFICATIONS_SMTP_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_secret_may_be_a_file_named_like_its_variable(folder: Path) -> None:
    (folder / "CARAVAN_SECRET").write_text(SECRET + "\n")
    (folder / "NOTIFICATIONS_SMTP_URL").write_text("smtp://mail:1025")
    kernel = settings.load()
    assert kernel.secret is not None and kernel.secret.get_secret_value() == SECRET
    own = settings.read(NotificationSettings).smtp_url
    assert own is not None and own.get_secret_value() == "smtp://mail:1025"


def test_the_environment_wins_over_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "CARAVAN_REDIS_URL").write_text("redis://file")
    monkeypatch.setenv("CARAVAN_REDIS_URL", "redis://environment")
    url = settings.load().redis_url
    assert url is not None and url.get_secret_value() == "redis://environment"


def test_a_wrong_file_is_named_like_its_variable_and_its_content_stays_unsaid(folder: Path) -> None:
    (folder / "CARAVAN_SECRET").write_text("short")
    with pytest.raises(settings.SettingsError, match=r"^CARAVAN_SECRET: .*32") as error:
        settings.load()
    assert "short" not in str(error.value).replace("too_short", "")
