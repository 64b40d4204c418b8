"""RabbitMQ by its management API: read in bulk by pages, only differences written. Never by importing definitions, which can stop half-way."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from caravan_operator.backends.answers import BadAnswer, rows, table, text
from caravan_operator.backends.broker import BrokerAway, Fence, Refused
from caravan_operator.backends.management import MOST_ROWS, PAGE, Management, NotServed, RabbitLogin, first_of
from caravan_operator.backends.rabbitmq_states import binding_state, exchange_state, policy_state, queue_state
from caravan_operator.reconcile.findings import Action
from caravan_operator.reconcile.rabbitmq_binding import Binding, BindingState
from caravan_operator.reconcile.rabbitmq_call import Call, path
from caravan_operator.reconcile.rabbitmq_exchange import Exchange, ExchangeState
from caravan_operator.reconcile.rabbitmq_policy import Policy
from caravan_operator.reconcile.rabbitmq_queue import Queue, differences
from caravan_operator.resources.names import identity
from caravan_operator.resources.rabbitmq import LIMITS_POLICY
from caravan_operator.status.reasons import Reason

LONGEST_PATTERN = 3000
"""Characters of a pattern in a query; a request's line has a bound."""
FEW = 20
"""Up to so many queues are asked for by name; more are read with all the others, by pages."""


class RabbitMQ:
    """One HTTP session per connection and generation of its credentials."""

    def __init__(self, login: RabbitLogin, spec: Mapping[str, Any], fence: Fence) -> None:
        self._fence = fence
        self._limit = spec.get("maxInFlight", 4)
        self._api = Management(login, spec)

    async def check(self) -> dict[str, Any]:
        try:
            overview = table(await self._api.get("overview", "/api/overview"))
            alarms = await self._api.status("alarms", "/api/health/checks/alarms", accept=frozenset({503}))
            facts = {
                "version": text(overview, "rabbitmq_version", r"[0-9A-Za-z.+~-]{1,64}"),
                "clusterName": text(overview, "cluster_name", r"[0-9A-Za-z@._-]{1,256}"),
            }
        except (NotServed, BadAnswer) as error:
            raise BrokerAway(Reason.UNREACHABLE, f"GET /api/overview: {error}; is this RabbitMQ's management API?") from None
        if alarms == 503:
            raise BrokerAway(Reason.ALARM, "an alarm is in effect: the broker takes no messages until it has memory and disk again")
        return facts

    async def observe(self, kind: str, wanted: Sequence[Any], *, usage: bool = False) -> list[Any]:
        readers: dict[str, Callable[[str, list[Any]], Awaitable[dict[str, Any]]]] = {
            "RabbitMQQueue": self._queues,
            "RabbitMQExchange": self._exchanges,
            "RabbitMQBinding": self._bindings,
            "RabbitMQPolicy": self._policies,
        }
        try:
            return await self._observe(readers[kind], wanted, usage)
        except BadAnswer as error:
            raise BrokerAway(Reason.UNREACHABLE, f"{error}; is this RabbitMQ's management API?") from None

    async def _observe(self, read: Callable[[str, list[Any]], Awaitable[dict[str, Any]]], wanted: Sequence[Any], usage: bool) -> list[Any]:
        found: dict[str, Any] = {}
        for vhost in sorted({each.vhost for each in wanted}):
            same = [each for each in wanted if each.vhost == vhost]
            try:
                found |= await read(vhost, same)
            except NotServed as error:  # this virtual host alone
                found |= {each.identity: Refused(str(error)) for each in same}
        if usage:
            for each in wanted:
                if not isinstance(found.get(each.identity, Refused("")), Refused):
                    found[each.identity] = await self._used(each, found[each.identity])
        return [found.get(each.identity) for each in wanted]

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

        return await first_of(*(one(actions) for actions in work))

    async def close(self) -> None:
        await self._api.close()

    async def listing(self, what: str, vhost: str) -> list[dict[str, Any]]:
        """Everything of a kind (`queues`, `exchanges`, `bindings`, `policies`) in a virtual host."""
        try:
            return await self._api.listing(what, vhost)
        except (NotServed, BadAnswer) as error:
            raise BrokerAway(Reason.UNREACHABLE, str(error)) from None

    async def _call(self, call: Call) -> Refused | None:
        self._fence()
        try:
            await self._api.send(call.method, call.path, call.body, call.steps_over)
        except NotServed as error:
            return Refused(str(error))
        return None

    async def _queues(self, vhost: str, wanted: Sequence[Queue]) -> dict[str, Any]:
        names = {queue.name for queue in wanted}
        items = await self._named_queues(vhost, names)
        policies = await self._named_policies(vhost, [queue.policy_name for queue in wanted])
        found = {name: queue_state(item, policies.get(LIMITS_POLICY + name)) for name, item in items.items()}
        for queue in wanted:  # the lists don't count messages: that is asked where a queue may have to be made anew
            state = found.get(queue.name)
            if state is not None and queue.recreate_if_empty and differences(queue, state):
                found[queue.name] = await self._used(queue, state) or state
        return {queue.identity: found[queue.name] for queue in wanted if queue.name in found}

    async def _named_queues(self, vhost: str, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """A few by one page of a pattern, since the answer for a single queue doesn't tell its policy; more by all the pages."""
        pattern = "^(" + "|".join(re.escape(name) for name in sorted(names)) + ")$"
        if len(names) > FEW or len(quote(pattern)) > LONGEST_PATTERN:
            items = await self._api.listing("queues", vhost, lambda item: item.get("name") in names)
        else:
            query = {"page": "1", "page_size": str(PAGE), "disable_stats": "true", "use_regex": "true", "name": pattern}
            answer = await self._api.get("queues", path("queues", vhost), query)
            if answer is None:
                raise NotServed(f"there is no virtual host {vhost}")
            items = rows(table(answer).get("items", []), PAGE)
        return {name: item for item in items if (name := text(item, "name")) in names}

    async def _named_policies(self, vhost: str, names: Sequence[str]) -> dict[str, Policy]:
        if len(names) > FEW:
            asked = set(names)
            items = await self._api.listing("policies", vhost, lambda item: item.get("name") in asked)
        else:
            answers = await first_of(*(self._api.get("policy", path("policies", vhost, name)) for name in names))
            items = [table(answer) for answer in answers if answer is not None]
        return {policy.name: policy for policy in map(policy_state, items)}

    async def _policies(self, vhost: str, wanted: Sequence[Policy]) -> dict[str, Any]:
        found = await self._named_policies(vhost, [policy.name for policy in wanted])
        return {policy.identity: found[policy.name] for policy in wanted if policy.name in found}

    async def _exchanges(self, vhost: str, wanted: Sequence[Exchange]) -> dict[str, Any]:
        if len(wanted) > FEW:
            names = {each.name for each in wanted}
            items = await self._api.listing("exchanges", vhost, lambda item: item.get("name") in names)
            return {identity("exchange", vhost, text(item, "name")): exchange_state(item) for item in items}

        async def one(exchange: Exchange) -> Any:
            try:
                item = await self._api.get("exchange", path("exchanges", vhost, exchange.name))
            except NotServed as error:  # this one alone
                return Refused(str(error))
            return None if item is None else exchange_state(table(item))

        states = await first_of(*map(one, wanted))
        return {each.identity: state for each, state in zip(wanted, states, strict=True) if state is not None}

    async def _bindings(self, vhost: str, wanted: Sequence[Binding]) -> dict[str, Any]:
        """Both ends first: a binding whose end is missing can only wait."""
        ends = await self._ends(vhost, wanted)
        there = [binding for binding in wanted if all(end in ends for end in binding.needs)]
        if len(there) > FEW:
            items = await self._api.listing("bindings", vhost)
        else:
            answers = await first_of(*(self._api.get("binding", path(*each.path)) for each in there))
            items = [item for found in answers if found is not None for item in rows(found, MOST_ROWS)]
        keys = {bound.identity: key for bound, key in map(binding_state, items)}
        states: dict[str, Any] = {}
        for binding in wanted:
            missing = tuple(end for end in binding.needs if end not in ends)
            if missing:
                states[binding.identity] = BindingState(missing)
            elif binding.identity in keys:
                states[binding.identity] = BindingState(properties_key=keys[binding.identity])
        return states

    async def _ends(self, vhost: str, wanted: Sequence[Binding]) -> set[str]:
        """Identities of those ends that are there."""
        queues = {each.destination for each in wanted if each.destination_type == "queue"}
        names = {each.source for each in wanted} | {each.destination for each in wanted if each.destination_type == "exchange"}
        exchanges = await self._exchanges(vhost, [Exchange(vhost, name) for name in sorted(names)])
        found = {each for each, state in exchanges.items() if not isinstance(state, Refused)}
        return found | {identity("queue", vhost, name) for name in (await self._named_queues(vhost, queues) if queues else ())}

    async def _used(self, wanted: Any, state: Any) -> Any:
        """With what a deletion wants to know. The counters are some seconds old, and the check and the deletion are two requests."""
        try:
            if isinstance(wanted, Queue):
                item = await self._api.get("queue", path("queues", wanted.vhost, wanted.name))
                return None if item is None else queue_state(table(item), state.policy)
            if isinstance(wanted, Exchange):
                ways = [path("exchanges", wanted.vhost, wanted.name, "bindings", end) for end in ("source", "destination")]
                bound = [await self._api.get("bindings", way) for way in ways]
                return ExchangeState(state.body, bound=any(bound))
        except NotServed as error:
            return Refused(str(error))
        return state
