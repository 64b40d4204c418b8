"""The webhook that Alertmanager tells: it keeps every notification, and refuses those of a receiver when it is asked to
be out of order.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Self

from observability.rehearsal.post_server import PostServer


@dataclass(frozen=True, slots=True)
class Notification:
    """One alert in one message. `received_at` is of `time.monotonic`."""

    received_at: float
    receiver: str
    status: str
    labels: dict[str, str]

    @property
    def alert(self) -> str:
        return self.labels["alertname"]


@dataclass
class AlertReceiver:
    """`with AlertReceiver() as receiver:` listens on a free port of this machine; a path for each receiver."""

    notifications: list[Notification] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Receivers that answer 500."""

    def __post_init__(self) -> None:
        self._server = PostServer(self._answer)
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _answer(self, path: str, body: bytes) -> int:
        name = path.strip("/")
        if name in self.refused:
            return 500
        self.take_message(name, json.loads(body))
        return 200

    def take_message(self, name: str, message: dict[str, object]) -> None:
        now = time.monotonic()
        alerts = message["alerts"]
        assert isinstance(alerts, list)
        self.notifications += [Notification(now, name, each["status"], each["labels"]) for each in alerts]

    def list_since(self, moment: float, alert: str | None = None, status: str = "firing") -> list[Notification]:
        """What came later than `moment`, of one alert or of all."""
        return [
            each
            for each in list(self.notifications)
            if each.received_at > moment and each.status == status and alert in (None, each.alert)
        ]
