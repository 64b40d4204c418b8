"""The connection to a Kafka cluster: requests of librdkafka's admin client, limited in number and time, and the
meaning of its errors. `kafka.py` makes the requests.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from caravan_operator.backends.broker import BrokerUnavailable, sanitize_message
from caravan_operator.reconcile.durations import parse_seconds
from caravan_operator.status.metrics import EXTERNAL_CALL_SECONDS
from caravan_operator.status.reasons import Reason
from caravan_operator.status.traces import start_span

_UNAVAILABLE_ERRORS = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._DESTROY,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_CONTROLLER,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
    }
)
_CREDENTIAL_ERRORS = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL})
_NOT_FOUND_ERRORS = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})


@dataclass(frozen=True, slots=True)
class KafkaLogin:
    """What a client needs: librdkafka's settings, and which values of them are secret."""

    settings: Mapping[str, Any]
    secrets: tuple[str, ...]


class KafkaClient:
    """One admin client per connection and generation of its credentials."""

    def __init__(self, login: KafkaLogin, spec: Mapping[str, Any]) -> None:
        self.timeout = parse_seconds(spec.get("requestTimeout", "30s"))
        self._slots = asyncio.Semaphore(spec.get("maxInFlight", 4))
        self._secrets = login.secrets
        self._last_error: KafkaError | None = None
        self.admin = AdminClient({**login.settings, "error_cb": self._record_error, "log_level": 0})

    def close(self) -> None:
        """librdkafka ends with the object; its threads may take a moment."""
        self.admin = None  # type: ignore[assignment]

    def forget_error(self) -> None:
        """Drop the last error, so that the next failure isn't explained by an old one."""
        self._last_error = None

    def sanitize_error(self, error: KafkaError) -> str:
        """The broker's own words, for the log alone."""
        return sanitize_message(error.str(), *self._secrets)

    async def run_request(self, operation: str, send: Callable[[], Mapping[Any, Any]]) -> dict[Any, Any]:
        """One request: its futures' results or exceptions. Raises BrokerUnavailable when there is no answer in time."""
        async with self._slots:
            started_at = time.monotonic()
            try:
                with start_span(f"kafka {operation}"):
                    futures = send()
                    pending = [asyncio.wrap_future(future) for future in futures.values()]
                    async with asyncio.timeout(self.timeout + 5):
                        results = await asyncio.gather(*pending, return_exceptions=True)
            except TimeoutError:
                raise self._build_unavailable(f"no answer to {operation} within {self.timeout:.0f} s") from None
            except KafkaException as error:
                raise self._build_unavailable(describe_error(get_error(error))) from error
            finally:
                EXTERNAL_CALL_SECONDS.labels("kafka", operation).observe(time.monotonic() - started_at)
        return dict(zip(futures, results, strict=True))

    def unwrap_or_none(self, result: Any) -> Any:
        """The result, or None when the topic isn't there."""
        if isinstance(result, KafkaException) and get_error(result).code() in _NOT_FOUND_ERRORS:
            return None
        return self.unwrap_result(result)

    def unwrap_result(self, result: Any) -> Any:
        if isinstance(result, KafkaException):
            self.raise_if_unavailable(get_error(result))
            raise self._build_unavailable(describe_error(get_error(result)))
        if isinstance(result, BaseException):
            raise result
        return result

    def raise_if_unavailable(self, error: KafkaError) -> None:
        if error.code() in _UNAVAILABLE_ERRORS or error.code() in _CREDENTIAL_ERRORS:
            raise self._build_unavailable(describe_error(error))

    def _build_unavailable(self, message: str) -> BrokerUnavailable:
        last = self._last_error
        is_refused = last is not None and last.code() in _CREDENTIAL_ERRORS
        details = f"{message}: {describe_error(last)}" if last is not None else message
        return BrokerUnavailable(
            Reason.CREDENTIALS_REFUSED if is_refused else Reason.UNREACHABLE, sanitize_message(details, *self._secrets)
        )

    def _record_error(self, error: KafkaError) -> None:
        """librdkafka reports in its own thread why it can't connect; the request itself only times out."""
        if self._last_error is None or self._last_error.code() not in _CREDENTIAL_ERRORS:
            self._last_error = error


def get_error(exception: KafkaException) -> KafkaError:
    return cast(KafkaError, exception.args[0])


def describe_error(error: KafkaError) -> str:
    """librdkafka's text for a code; what a broker adds to it goes into the log only."""
    is_local = error.code() < 0 and error.code() not in _CREDENTIAL_ERRORS
    return str(error.str() if is_local else KafkaError(error.code()).str())
