"""RabbitMQ by its management API: read in bulk by pages, only differences written. Never by importing definitions, which can stop half-way."""

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from caravan_operator.backends.broker import BrokerAway, Fence, Refused, plain
from caravan_operator.reconcile.durations import seconds
from caravan_operator.reconcile.findings import Action
from caravan_operator.reconcile.rabbitmq_binding import Binding, BindingState
from caravan_operator.reconcile.rabbitmq_call import Call, path
from caravan_operator.reconcile.rabbitmq_exchange import Exchange, ExchangeState
from caravan_operator.reconcile.rabbitmq_policy import Policy
from caravan_operator.reconcile.rabbitmq_queue import Queue, QueueState, differences
from caravan_operator.resources.rabbitmq import LIMITS_POLICY
from caravan_operator.status.metrics import EXTERNAL
from caravan_operator.status.reasons import Reason
from caravan_operator.status.traces import span

PAGE = 500
FEW = 20
"""Up to so many queues are asked for by name; more are read with all the others, by pages."""


@dataclass(frozen=True, slots=True)
class RabbitLogin:
    url: str
    username: str
    password: str
    tls: ssl.SSLContext | None


class RabbitMQ:
    """One HTTP session per connection and generation of its credentials."""

    def __init__(self, login: RabbitLogin, spec: Mapping[str, Any], fence: Fence) -> None:
        self._login = login
        self._fence = fence
        self._limit = spec.get("maxInFlight", 4)
        self._session = aiohttp.ClientSession(
            login.url.rstrip("/"),
            headers={"Authorization": aiohttp.encode_basic_auth(login.username, login.password)},
            connector=aiohttp.TCPConnector(limit=self._limit, ssl=login.tls or True),
            timeout=aiohttp.ClientTimeout(total=seconds(spec.get("requestTimeout", "30s"))),
        )

    async def check(self) -> dict[str, Any]:
        overview = await self._get("overview", "/api/overview")
        alarms = await self._ask("GET", "alarms", "/api/health/checks/alarms", accept=frozenset({503}))
        if alarms[0] == 503:
            raise BrokerAway(Reason.ALARM, plain(f"an alarm is in effect: {alarms[1]}"))
        return {"version": overview["rabbitmq_version"], "clusterName": overview["cluster_name"]}

    async def observe(self, kind: str, wanted: Sequence[Any], *, usage: bool = False) -> list[Any]:
        readers: dict[str, Callable[[str, list[Any]], Awaitable[dict[str, Any]]]] = {
            "RabbitMQQueue": self._queues,
            "RabbitMQExchange": self._exchanges,
            "RabbitMQBinding": self._bindings,
            "RabbitMQPolicy": self._policies,
        }
        found: dict[str, Any] = {}
        for vhost in sorted({each.vhost for each in wanted}):
            found |= await readers[kind](vhost, [each for each in wanted if each.vhost == vhost])
        states = [found.get(each.identity) for each in wanted]
        return [await self._used(each, state) if usage and state else state for each, state in zip(wanted, states, strict=True)]

    async def apply(self, work: Sequence[tuple[Action, ...]], *, dry: bool = False) -> list[Refused | None]:
        """The actions of one object in their order, several objects at a time."""
        if dry:
            return [None] * len(work)
        slots = asyncio.Semaphore(self._limit)

        async def one(actions: tuple[Action, ...]) -> Refused | None:
            async with slots:
                for action in actions:
                    if isinstance(action, Call) and (refused := await self._call(action)):
                        return refused
            return None

        answers = await asyncio.gather(*(one(actions) for actions in work), return_exceptions=True)
        for answer in answers:  # only now: none of them may still be running when the pass is given up
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def close(self) -> None:
        await self._session.close()

    async def listing(self, what: str, vhost: str) -> list[dict[str, Any]]:
        """Everything of a kind (`queues`, `exchanges`, `bindings`, `policies`) in a virtual host."""
        if what in ("bindings", "policies"):
            return list(await self._get(what, path(what, vhost)))
        items: list[dict[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            answer = await self._get(what, f"{path(what, vhost)}?page={page}&page_size={PAGE}&disable_stats=true")
            items += answer["items"]
            pages, page = answer["page_count"], page + 1
        return items

    async def _call(self, call: Call) -> Refused | None:
        self._fence()
        status, answer = await self._ask(
            call.method, call.method.lower(), call.path, call.body, accept=call.steps_over | {400, 403, 404, 405, 409, 412}
        )
        if status < 300 or status in call.steps_over:
            return None
        return Refused(plain(f"{status}: {answer}", self._login.password))

    async def _queues(self, vhost: str, wanted: Sequence[Queue]) -> dict[str, QueueState]:
        names = {queue.name for queue in wanted}
        items = await self._few_queues(vhost, names) if len(names) <= FEW else await self.listing("queues", vhost)
        limited = [queue.policy_name for queue in wanted]
        policies = await self._named_policies(vhost, limited)
        found = {item["name"]: queue_state(item, policies.get(LIMITS_POLICY + item["name"])) for item in items if item["name"] in names}
        for queue in wanted:  # the lists don't count messages: that is asked where a queue may have to be made anew
            state = found.get(queue.name)
            if state is not None and queue.recreate_if_empty and differences(queue, state):
                found[queue.name] = await self._used(queue, state) or state
        return {f"queue:{vhost}:{name}": state for name, state in found.items()}

    async def _few_queues(self, vhost: str, names: Iterable[str]) -> list[dict[str, Any]]:
        """One page by a pattern: the answer for a single queue doesn't tell its policy."""
        pattern = "^(" + "|".join(re.escape(name) for name in sorted(names)) + ")$"
        query = {"page": "1", "page_size": str(PAGE), "disable_stats": "true", "use_regex": "true", "name": pattern}
        answer = await self._get("queues", path("queues", vhost), query)
        return list(answer.get("items", ()))

    async def _named_policies(self, vhost: str, names: Sequence[str]) -> dict[str, Policy]:
        if len(names) > FEW:
            return {item["name"]: policy_state(item) for item in await self.listing("policies", vhost)}
        asked = [self._ask("GET", "policy", path("policies", vhost, name), accept=frozenset({404})) for name in names]
        return {item["name"]: policy_state(item) for status, item in await asyncio.gather(*asked) if status == 200}

    async def _policies(self, vhost: str, wanted: Sequence[Policy]) -> dict[str, Policy]:
        found = await self._named_policies(vhost, [policy.name for policy in wanted])
        return {policy.identity: policy for policy in found.values()}

    async def _exchanges(self, vhost: str, wanted: Sequence[Exchange]) -> dict[str, ExchangeState]:
        if len(wanted) > FEW:
            items = await self.listing("exchanges", vhost)
        else:
            asked = [self._ask("GET", "exchange", path("exchanges", vhost, each.name), accept=frozenset({404})) for each in wanted]
            items = [item for status, item in await asyncio.gather(*asked) if status == 200]
        return {f"exchange:{vhost}:{item['name']}": exchange_state(item) for item in items}

    async def _bindings(self, vhost: str, wanted: Sequence[Binding]) -> dict[str, BindingState]:
        """Both ends first: a binding whose end is missing can only wait."""
        ends = await self._ends(vhost, wanted)
        there = [binding for binding in wanted if all(end in ends for end in binding.needs)]
        if len(there) > FEW:
            items = await self.listing("bindings", vhost)
        else:
            answers = await asyncio.gather(*(self._ask("GET", "binding", path(*each.path), accept=frozenset({404})) for each in there))
            items = [item for status, found in answers if status == 200 for item in found]
        keys = {bound.identity: key for bound, key in map(binding_state, items)}
        states: dict[str, BindingState] = {}
        for binding in wanted:
            missing = tuple(end for end in binding.needs if end not in ends)
            if missing:
                states[binding.identity] = BindingState(missing)
            elif binding.identity in keys:
                states[binding.identity] = BindingState(properties_key=keys[binding.identity])
        return states

    async def _ends(self, vhost: str, wanted: Sequence[Binding]) -> set[str]:
        needed = {need for binding in wanted for need in binding.needs}
        exchanges = [Exchange(vhost, need.split(":", 2)[2]) for need in needed if need.startswith("exchange:")]
        queues = {need.split(":", 2)[2] for need in needed if need.startswith("queue:")}
        found = set(await self._exchanges(vhost, exchanges))
        if queues:
            items = await self._few_queues(vhost, queues) if len(queues) <= FEW else await self.listing("queues", vhost)
            found |= {f"queue:{vhost}:{item['name']}" for item in items}
        return found

    async def _used(self, wanted: Any, state: Any) -> Any:
        """With what a deletion wants to know. The counters are some seconds old, and the check and the deletion are two requests."""
        if isinstance(wanted, Queue):
            status, item = await self._ask("GET", "queue", path("queues", wanted.vhost, wanted.name), accept=frozenset({404}))
            policy = state.policy
            return queue_state(item, policy) if status == 200 else None
        if isinstance(wanted, Exchange):
            ways = [path("exchanges", wanted.vhost, wanted.name, "bindings", end) for end in ("source", "destination")]
            bound = [await self._get("bindings", way) for way in ways]
            return ExchangeState(state.body, bound=any(bound))
        return state

    async def _get(self, operation: str, url: str, query: Mapping[str, str] | None = None) -> Any:
        return (await self._ask("GET", operation, url, query=query))[1]

    async def _ask(
        self,
        method: str,
        operation: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> tuple[int, Any]:
        """Status and answer. Raises BrokerAway for every failure that isn't in `accept`."""
        started = time.monotonic()
        address = URL(url, encoded=True)  # names are quoted already: a slash in one must stay quoted
        try:
            with span(f"rabbitmq {operation}"):
                response = await self._session.request(method, address, json=body, params=query)
            async with response:
                answer: Any = await response.json() if response.content_type == "application/json" else await response.text()
                if response.status >= 400 and response.status not in accept:
                    raise self._away(response.status, answer)
                return response.status, answer
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            message = plain(str(error) or type(error).__name__, self._login.password)
            raise BrokerAway(Reason.UNREACHABLE, f"{method} {url.partition('?')[0]}: {message}") from error
        finally:
            EXTERNAL.labels("rabbitmq", operation).observe(time.monotonic() - started)

    def _away(self, status: int, answer: Any) -> BrokerAway:
        refused = status in (401, 403)
        text = plain(f"the management API answers {status}: {answer}", self._login.password)
        return BrokerAway(Reason.CREDENTIALS_REFUSED if refused else Reason.UNREACHABLE, text)


def queue_state(item: Mapping[str, Any], policy: Policy | None) -> QueueState:
    """A queue as the API lists it."""
    return QueueState(
        type=item.get("type", "classic"),
        durable=item["durable"],
        auto_delete=item["auto_delete"],
        arguments=item.get("arguments") or {},
        effective_policy=item.get("policy") or None,
        policy=policy,
        messages=item.get("messages"),
        consumers=item.get("consumers"),
    )


def exchange_state(item: Mapping[str, Any]) -> ExchangeState:
    return ExchangeState({name: item.get(name) for name in ("type", "durable", "auto_delete", "internal", "arguments")})


def policy_state(item: Mapping[str, Any]) -> Policy:
    return Policy(item["vhost"], item["name"], item["pattern"], item["apply-to"], item.get("priority", 0), item["definition"])


def binding_state(item: Mapping[str, Any]) -> tuple[Binding, str]:
    """A binding as the API lists it, with the server's name for it."""
    kind = item["destination_type"]
    bound = Binding(item["vhost"], item["source"], item["destination"], kind, item["routing_key"], item.get("arguments") or {})
    return bound, item["properties_key"]
