"""What every answer must keep, whatever was asked: read from the published document alone."""

import json
import re
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

PROBLEM = "application/problem+json"
TRACE = re.compile(r"[0-9a-f]{32}")
TRANSPORT = {
    "content-type",
    "content-length",
    "date",
    "server",
    "connection",
    "transfer-encoding",
    "x-content-type-options",
    "pragma",
}
"""Headers that say how the answer travels and is to be shown, not what it says."""
OF_PAGES = {"content-security-policy", "referrer-policy"}
MOST = 300_000


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


class Promises:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._validators: dict[str, Draft202012Validator] = {}

    def broken(self, operation: dict[str, Any], answer: Answer) -> list[str]:
        """What an answer to this operation doesn't keep."""
        if answer.status >= 500:
            return [f"status {answer.status}"]
        declared = operation["responses"].get(str(answer.status))
        if declared is None:
            return [f"status {answer.status} is not documented"]
        faults = [*self._headers(declared, answer), *self._content(declared, answer)]
        if answer.status >= 400 and answer.kind == PROBLEM:
            faults += self._problem(answer)
        return faults

    def _headers(self, declared: dict[str, Any], answer: Answer) -> list[str]:
        known = {name.lower(): header for name, header in declared.get("headers", {}).items()}
        page = answer.kind == "text/html"
        return [
            *(
                f"no header {name}"
                for name, header in known.items()
                if header.get("required") and name not in answer.headers and not page
            ),
            *(
                f"header {name} is not documented"
                for name in answer.headers.keys() - known.keys() - TRANSPORT - (OF_PAGES if page else set())
            ),
        ]

    def _content(self, declared: dict[str, Any], answer: Answer) -> list[str]:
        content = declared.get("content", {})
        if not content:
            return [f"a body of {answer.kind} that is not documented"] if answer.content else []
        if answer.kind not in content:
            return [f"content type {answer.kind!r} is not documented"]
        if len(answer.content) > MOST or not answer.kind.endswith("json"):
            return []
        return [
            error.message[:300]
            for error in self._validator(content[answer.kind].get("schema", {})).iter_errors(json.loads(answer.content))
        ]

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        name = json.dumps(schema, sort_keys=True)
        if name not in self._validators:
            self._validators[name] = Draft202012Validator({**schema, "components": self._document["components"]})
        return self._validators[name]

    def _problem(self, answer: Answer) -> list[str]:
        problem = json.loads(answer.content)
        faults = []
        if not TRACE.fullmatch(problem.get("trace_id") or ""):
            faults.append(f"trace_id {problem.get('trace_id')!r}")
        if problem["status"] != answer.status:
            faults.append(f"says status {problem['status']}")
        if answer.status == 422 and not problem.get("errors") and "Idempotency-Key" not in problem["detail"]:
            faults.append(f"names no field: {problem['detail'][:200]}")
        return faults
