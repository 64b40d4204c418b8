"""The collector's configuration: what is removed before anything is kept, and that nothing is left out before it is
counted.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from caravan.redaction import SECRET_NAMES

ROOT = Path(__file__).parent.parent.parent
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "observability/collector/config.yaml").read_text())
PIPELINES: dict[str, dict[str, list[str]]] = CONFIG["service"]["pipelines"]
COMPOSE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_names_of_secrets_are_those_of_the_shops_one_list() -> None:
    (action,) = CONFIG["processors"]["attributes/secrets"]["actions"]
    assert action == {"pattern": f"(?i)({'|'.join(SECRET_NAMES)})", "action": "delete"}


@pytest.mark.parametrize("name", [name for name, pipeline in PIPELINES.items() if "otlp" in pipeline["receivers"]])
def test_what_comes_in_is_bounded_first_and_has_no_secret_when_it_goes_on(name: str) -> None:
    first, *others = PIPELINES[name]["processors"]
    assert first == "memory_limiter"
    assert others[:2] == ["attributes/secrets", "transform/addresses"]


def test_spans_are_counted_before_any_is_left_out() -> None:
    counting = [pipeline for pipeline in PIPELINES.values() if "spanmetrics" in pipeline["exporters"]]
    sampling = [pipeline for pipeline in PIPELINES.values() if "tail_sampling" in pipeline.get("processors", [])]
    assert len(counting) == len(sampling) == 1
    assert "tail_sampling" not in counting[0]["processors"]
    assert set(sampling[0]["receivers"]) <= set(counting[0]["exporters"])


def test_every_part_that_a_pipeline_names_is_declared_and_the_other_way_round() -> None:
    """A part that is declared and not used is silent: so is a receiver that a list lost."""
    used = {
        kind: {part for pipeline in PIPELINES.values() for part in pipeline.get(kind, [])}
        for kind in ("receivers", "processors", "exporters")
    }
    connectors = set(CONFIG["connectors"])
    assert used["processors"] == set(CONFIG["processors"])
    assert used["receivers"] - connectors == set(CONFIG["receivers"])
    assert used["exporters"] - connectors == set(CONFIG["exporters"])
    assert used["receivers"] & connectors == used["exporters"] & connectors == connectors


def test_mail_addresses_are_masked_in_texts_of_spans_and_lines() -> None:
    statements = CONFIG["processors"]["transform/addresses"]
    patterns = {
        re.findall(r'"([^"]*@[^"]*)"', statement)[0]
        for kind in ("trace_statements", "log_statements")
        for statement in statements[kind]
    }
    (pattern,) = patterns
    assert re.sub(pattern, "[masked]", "mail of Ada.L+x@shop.example.com bounced") == "mail of [masked] bounced"
    assert re.sub(pattern, "[masked]", "42 @ 7") == "42 @ 7"


def test_what_the_configuration_asks_of_its_environment_is_given_in_compose() -> None:
    text = (ROOT / "observability/collector/config.yaml").read_text()
    without_default = set(re.findall(r"\$\{env:(\w+)\}", text))
    assert without_default == set(COMPOSE["collector"]["environment"])
