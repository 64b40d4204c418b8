"""Builds the documents that promise something to others and that no process serves whole: OpenAPI of all services,
the JSON Schema of all settings, the list of metrics and that of problem types.

`generate_docs.py` writes them; `tools/compatibility` compares them with the last release's.
"""

import hashlib
import importlib
from collections import Counter as Counts
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from pydantic_settings import BaseSettings

from caravan.environment import FormerName
from caravan.errors import TYPE_BASE, Problem
from caravan.http import create_app
from caravan.service import Service
from services.gateway.app import ROUTERS
from services.gateway.reference.openapi import list_operations, merge_documents
from services.gateway.routing.trie import OWN_SERVICE

ROOT = Path(__file__).parent.parent
METRIC_TYPES: dict[type[MetricWrapperBase], str] = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}

Document = dict[str, Any]


def build_openapi(services: Iterable[Service], version: str) -> Document:
    """What the gateway of a shop with these services serves at `/openapi.json`, equal answers written once."""
    routers = {OWN_SERVICE: ROUTERS, **{each.name: each.routers for each in services if each.routers}}
    documents = {}
    for name, of_service in routers.items():
        app = create_app(name, of_service, SimpleNamespace(secret="", refused=None), None)
        documents[name] = app.fastapi.openapi()  # type: ignore[attr-defined]
    return _share_responses(merge_documents(documents, "http://127.0.0.1:8080", version))


def _share_responses(document: Document) -> Document:
    """Answers that several operations have become components: most are the same problems with the same headers."""
    counts = Counts(
        orjson.dumps(response)
        for _, _, operation in list_operations(document)
        for response in operation["responses"].values()
    )
    shared: dict[str, Document] = {}
    for _, _, operation in list_operations(document):
        for status, response in operation["responses"].items():
            raw = orjson.dumps(response)
            if counts[raw] > 1:
                name = f"{status}-{hashlib.sha256(raw).hexdigest()[:8]}"
                shared[name] = response
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    document["components"]["responses"] = dict(sorted(shared.items()))
    return document


def build_settings_schema(settings_classes: Iterable[type[BaseSettings]]) -> Document:
    """A JSON Schema of the environment: a property for each variable, `x-former-names` for what it was called."""
    properties: Document = {}
    shapes: Document = {}
    required: list[str] = []
    for settings_class in settings_classes:
        prefix = str(settings_class.model_config.get("env_prefix", ""))
        schema = settings_class.model_json_schema(mode="validation")
        shapes |= schema.get("$defs", {})
        for name, field in settings_class.model_fields.items():
            former_names = [f"{prefix}{each.name.upper()}" for each in field.metadata if isinstance(each, FormerName)]
            properties[f"{prefix}{name.upper()}"] = {
                **{key: value for key, value in schema["properties"][name].items() if key != "title"},
                **({"x-former-names": former_names} if former_names else {}),
            }
        required += [f"{prefix}{name.upper()}" for name in schema.get("required", ())]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Caravan's environment variables",
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        **({"$defs": shapes} if shapes else {}),
    }


def list_metrics() -> dict[str, Document]:
    """Every metric that is declared in the shop and its operator, by the name that Prometheus sees."""
    found = {}
    for metric in _iterate_metrics():
        kind = METRIC_TYPES[type(metric)]
        family = next(iter(metric.describe()))
        found[family.name + ("_total" if kind == "counter" else "")] = {
            "type": kind,
            "labels": list(metric._labelnames),  # the library tells them to nobody
            **({"buckets": metric._kwargs["buckets"]} if kind == "histogram" and metric._kwargs.get("buckets") else {}),
            "meaning": family.documentation,
        }
    return dict(sorted(found.items()))


def _iterate_metrics() -> Iterator[MetricWrapperBase]:
    for name in list_metric_modules():
        yield from (
            each for each in vars(importlib.import_module(name)).values() if isinstance(each, MetricWrapperBase)
        )


def list_metric_modules() -> list[str]:
    """The modules that declare metrics; nothing else does."""
    of_services = [f"services.{file.parent.name}.metrics" for file in sorted(ROOT.glob("services/*/metrics.py"))]
    return ["caravan.telemetry.metrics", *of_services, "caravan_operator.status.metrics"]


def list_problems() -> dict[str, Document]:
    """Every type of error that a service answers with, by its URI. All services are loaded by then."""
    kinds = [Problem]
    for kind in kinds:
        kinds += [each for each in kind.__subclasses__() if each not in kinds]
    return {
        TYPE_BASE + kind.slug: {"status": kind.status, "title": kind.title}
        for kind in sorted(kinds, key=lambda each: each.slug)
    }
