"""Settings that were renamed: the former name works, is warned about, and yields to the new one."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from structlog.testing import CapturingLogger

from caravan import environment
from caravan.environment import FormerName
from caravan.settings import Settings as KernelSettings
from services.registry import load_settings_classes


class PaperSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAPER_", extra="ignore", frozen=True)

    sheet_limit: Annotated[int, FormerName("sheets")] = Field(5, ge=1)


@pytest.fixture(autouse=True)
def secrets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "SECRETS", tmp_path)
    return tmp_path


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    capturing = CapturingLogger()
    monkeypatch.setattr(environment, "log", capturing)
    return capturing


def read_warnings(logger: CapturingLogger) -> list[tuple[str, str, str]]:
    environment.warn_about_former_names([PaperSettings])
    assert {call.method_name for call in logger.calls} <= {"warning"}
    return [(call.args[0], call.kwargs["former_name"], call.kwargs["new_name"]) for call in logger.calls]


@pytest.mark.parametrize("name", ["PAPER_SHEETS", "paper_sheets"])
def test_a_former_name_is_read_and_warned_about_once(
    name: str, logger: CapturingLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "7")
    environment.refuse_unknown([PaperSettings])
    assert environment.load_class(PaperSettings).sheet_limit == 7
    assert read_warnings(logger) == [("setting renamed", name, "PAPER_SHEET_LIMIT")]


def test_a_former_name_may_be_a_file_of_a_secret(secrets_folder: Path, logger: CapturingLogger) -> None:
    (secrets_folder / "PAPER_SHEETS").write_text("8\n")
    environment.refuse_unknown([PaperSettings])
    assert environment.load_class(PaperSettings).sheet_limit == 8
    assert read_warnings(logger) == [("setting renamed", "PAPER_SHEETS", "PAPER_SHEET_LIMIT")]


@pytest.mark.parametrize("in_a_file", [False, True])
def test_of_both_names_the_new_one_wins_and_the_log_says_so(
    in_a_file: bool, logger: CapturingLogger, secrets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAPER_SHEETS", "7")
    if in_a_file:
        (secrets_folder / "PAPER_SHEET_LIMIT").write_text("9")
    else:
        monkeypatch.setenv("PAPER_SHEET_LIMIT", "9")
    assert environment.load_class(PaperSettings).sheet_limit == 9
    assert read_warnings(logger) == [("setting ignored, its new name is set", "PAPER_SHEETS", "PAPER_SHEET_LIMIT")]


def test_a_wrong_value_is_named_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPER_SHEETS", "0")
    with pytest.raises(environment.SettingsError, match=r"^PAPER_SHEETS: .*greater than or equal to 1"):
        environment.load_class(PaperSettings)


def test_a_misspelt_former_name_is_told_the_new_one() -> None:
    with pytest.raises(environment.SettingsError, match=r"PAPER_SHETS: .*did you mean PAPER_SHEET_LIMIT\?"):
        environment.refuse_unknown([PaperSettings], {"PAPER_SHETS": "1"})


def test_without_a_former_name_nothing_is_warned_about(
    logger: CapturingLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAPER_SHEET_LIMIT", "9")
    assert read_warnings(logger) == []


@pytest.mark.parametrize("settings_class", [KernelSettings, *load_settings_classes()])
def test_no_former_name_is_a_setting_of_today(settings_class: type[BaseSettings]) -> None:
    former_names = [
        former.name
        for declared in settings_class.model_fields.values()
        for former in declared.metadata
        if isinstance(former, FormerName)
    ]
    assert not set(former_names) & set(settings_class.model_fields)
    assert len(set(former_names)) == len(former_names)
