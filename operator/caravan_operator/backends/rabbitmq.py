"""RabbitMQ by its management API (`management.py`): reads in bulk by pages and writes differences only. Importing
definitions is not used, because an import can stop half-way.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from caravan_operator.backends.broker import BrokerUnavailable, Fence, Refusal
from caravan_operator.backends.http_responses import InvalidResponse, expect_object, expect_objects, get_text
from caravan_operator.backends.management import (
    MAX_OBJECTS,
    PAGE_SIZE,
    ManagementApi,
    RabbitLogin,
    RequestRefused,
    gather_or_raise,
)
from caravan_operator.backends.rabbitmq_states import (
    parse_binding_state,
    parse_exchange_state,
    parse_policy_state,
    parse_queue_state,
)
from caravan_operator.reconcile.diff import Action
from caravan_operator.reconcile.rabbitmq_binding import Binding, BindingState
from caravan_operator.reconcile.rabbitmq_call import Call, build_api_path
from caravan_operator.reconcile.rabbitmq_exchange import Exchange, ExchangeState
from caravan_operator.reconcile.rabbitmq_policy import Policy
from caravan_operator.reconcile.rabbitmq_queue import Queue, list_differences
from caravan_operator.resources.names import build_identity
from caravan_operator.resources.rabbitmq import LIMITS_POLICY
from caravan_operator.status.reasons import Reason

MAX_PATTERN_LENGTH = 3000
"""Characters of a pattern in a query; a request's line has a bound."""
MAX_NAMED_READS = 20
"""Up to so many queues are requested by name; more are read with all the others, by pages."""


class RabbitMQ:
    """One HTTP session per connection and generation of its credentials."""

    def __init__(self, login: RabbitLogin, spec: Mapping[str, Any], fence: Fence) -> None:
        self._fence = fence
        self._limit = spec.get("maxInFlight", 4)
        self._api = ManagementApi(login, spec)

    async def check_health(self) -> dict[str, Any]:
        try:
            overview = expect_object(await self._api.get("overview", "/api/overview"))
            alarms = await self._api.get_status("alarms", "/api/health/checks/alarms", accept=frozenset({503}))
            status_fields = {
                "version": get_text(overview, "rabbitmq_version", r"[0-9A-Za-z.+~-]{1,64}"),
                "clusterName": get_text(overview, "cluster_name", r"[0-9A-Za-z@._-]{1,256}"),
            }
        except (RequestRefused, InvalidResponse) as error:
            raise BrokerUnavailable(
                Reason.UNREACHABLE, f"GET /api/overview: {error}; is this RabbitMQ's management API?"
            ) from None
        if alarms == 503:
            raise BrokerUnavailable(
                Reason.ALARM, "an alarm is in effect: the broker takes no messages until it has memory and disk again"
            )
        return status_fields

    async def read_states(self, kind: str, desired: Sequence[Any], *, with_usage: bool = False) -> list[Any]:
        readers: dict[str, Callable[[str, list[Any]], Awaitable[dict[str, Any]]]] = {
            "RabbitMQQueue": self._read_queues,
            "RabbitMQExchange": self._read_exchanges,
            "RabbitMQBinding": self._read_bindings,
            "RabbitMQPolicy": self._read_policies,
        }
        try:
            return await self._read_by_vhost(readers[kind], desired, with_usage)
        except InvalidResponse as error:
            raise BrokerUnavailable(Reason.UNREACHABLE, f"{error}; is this RabbitMQ's management API?") from None

    async def _read_by_vhost(
        self, read: Callable[[str, list[Any]], Awaitable[dict[str, Any]]], desired: Sequence[Any], with_usage: bool
    ) -> list[Any]:
        states: dict[str, Any] = {}
        for vhost in sorted({each.vhost for each in desired}):
            in_vhost = [each for each in desired if each.vhost == vhost]
            try:
                states |= await read(vhost, in_vhost)
            except RequestRefused as error:  # concerns this virtual host alone
                states |= {each.identity: Refusal(str(error)) for each in in_vhost}
        if with_usage:
            for each in desired:
                if not isinstance(states.get(each.identity, Refusal("")), Refusal):
                    states[each.identity] = await self._read_usage(each, states[each.identity])
        return [states.get(each.identity) for each in desired]

    async def apply_actions(
        self, action_lists: Sequence[tuple[Action, ...]], *, dry_run: bool = False
    ) -> list[Refusal | None]:
        """The actions of one object in their order, several objects at a time."""
        if dry_run:
            return [None] * len(action_lists)
        slots = asyncio.Semaphore(self._limit)

        async def apply_one(actions: tuple[Action, ...]) -> Refusal | None:
            async with slots:
                for action in actions:
                    if isinstance(action, Call) and (refusal := await self._send_call(action)):
                        return refusal
            return None

        return await gather_or_raise(*(apply_one(actions) for actions in action_lists))

    async def close(self) -> None:
        await self._api.close()

    async def list_objects(self, collection: str, vhost: str) -> list[dict[str, Any]]:
        """Everything of a kind (`queues`, `exchanges`, `bindings`, `policies`) in a virtual host."""
        try:
            return await self._api.list_objects(collection, vhost)
        except (RequestRefused, InvalidResponse) as error:
            raise BrokerUnavailable(Reason.UNREACHABLE, str(error)) from None

    async def _send_call(self, call: Call) -> Refusal | None:
        self._fence()
        try:
            await self._api.send_change(call.method, call.path, call.body, call.ignored_statuses)
        except RequestRefused as error:
            return Refusal(str(error))
        return None

    async def _read_queues(self, vhost: str, desired: Sequence[Queue]) -> dict[str, Any]:
        names = {queue.name for queue in desired}
        items = await self._fetch_queues(vhost, names)
        policies = await self._fetch_policies(vhost, [queue.policy_name for queue in desired])
        states = {name: parse_queue_state(item, policies.get(LIMITS_POLICY + name)) for name, item in items.items()}
        for queue in desired:  # the lists don't count messages: that is asked where a queue may have to be made anew
            state = states.get(queue.name)
            if state is not None and queue.recreate_if_empty and list_differences(queue, state):
                states[queue.name] = await self._read_usage(queue, state) or state
        return {queue.identity: states[queue.name] for queue in desired if queue.name in states}

    async def _fetch_queues(self, vhost: str, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """A few by one page of a pattern, since the answer for a single queue doesn't tell its policy; more by all the
        pages.
        """
        pattern = "^(" + "|".join(re.escape(name) for name in sorted(names)) + ")$"
        if len(names) > MAX_NAMED_READS or len(quote(pattern)) > MAX_PATTERN_LENGTH:
            items = await self._api.list_objects("queues", vhost, lambda item: item.get("name") in names)
        else:
            query = {
                "page": "1",
                "page_size": str(PAGE_SIZE),
                "disable_stats": "true",
                "use_regex": "true",
                "name": pattern,
            }
            document = await self._api.get("queues", build_api_path("queues", vhost), query)
            if document is None:
                raise RequestRefused(f"there is no virtual host {vhost}")
            items = expect_objects(expect_object(document).get("items", []), PAGE_SIZE)
        return {name: item for item in items if (name := get_text(item, "name")) in names}

    async def _fetch_policies(self, vhost: str, names: Sequence[str]) -> dict[str, Policy]:
        if len(names) > MAX_NAMED_READS:
            name_set = set(names)
            items = await self._api.list_objects("policies", vhost, lambda item: item.get("name") in name_set)
        else:
            documents = await gather_or_raise(
                *(self._api.get("policy", build_api_path("policies", vhost, name)) for name in names)
            )
            items = [expect_object(answer) for answer in documents if answer is not None]
        return {policy.name: policy for policy in map(parse_policy_state, items)}

    async def _read_policies(self, vhost: str, desired: Sequence[Policy]) -> dict[str, Any]:
        policies = await self._fetch_policies(vhost, [policy.name for policy in desired])
        return {policy.identity: policies[policy.name] for policy in desired if policy.name in policies}

    async def _read_exchanges(self, vhost: str, desired: Sequence[Exchange]) -> dict[str, Any]:
        if len(desired) > MAX_NAMED_READS:
            names = {each.name for each in desired}
            items = await self._api.list_objects("exchanges", vhost, lambda item: item.get("name") in names)
            return {
                build_identity("exchange", vhost, get_text(item, "name")): parse_exchange_state(item) for item in items
            }

        async def read_one(exchange: Exchange) -> Any:
            try:
                item = await self._api.get("exchange", build_api_path("exchanges", vhost, exchange.name))
            except RequestRefused as error:  # concerns this object alone
                return Refusal(str(error))
            return None if item is None else parse_exchange_state(expect_object(item))

        states = await gather_or_raise(*map(read_one, desired))
        return {each.identity: state for each, state in zip(desired, states, strict=True) if state is not None}

    async def _read_bindings(self, vhost: str, desired: Sequence[Binding]) -> dict[str, Any]:
        """Both ends first: a binding whose end is missing can only wait."""
        ends = await self._find_existing_ends(vhost, desired)
        bindable = [binding for binding in desired if all(end in ends for end in binding.dependencies)]
        if len(bindable) > MAX_NAMED_READS:
            items = await self._api.list_objects("bindings", vhost)
        else:
            documents = await gather_or_raise(
                *(self._api.get("binding", build_api_path(*each.path_segments)) for each in bindable)
            )
            items = [
                item for document in documents if document is not None for item in expect_objects(document, MAX_OBJECTS)
            ]
        keys = {bound.identity: key for bound, key in map(parse_binding_state, items)}
        states: dict[str, Any] = {}
        for binding in desired:
            missing = tuple(end for end in binding.dependencies if end not in ends)
            if missing:
                states[binding.identity] = BindingState(missing)
            elif binding.identity in keys:
                states[binding.identity] = BindingState(properties_key=keys[binding.identity])
        return states

    async def _find_existing_ends(self, vhost: str, desired: Sequence[Binding]) -> set[str]:
        """Identities of those ends that are there."""
        queues = {each.destination for each in desired if each.destination_type == "queue"}
        names = {each.source for each in desired} | {
            each.destination for each in desired if each.destination_type == "exchange"
        }
        exchanges = await self._read_exchanges(vhost, [Exchange(vhost, name) for name in sorted(names)])
        identities = {each for each, state in exchanges.items() if not isinstance(state, Refusal)}
        return identities | {
            build_identity("queue", vhost, name) for name in (await self._fetch_queues(vhost, queues) if queues else ())
        }

    async def _read_usage(self, desired: Any, state: Any) -> Any:
        """With what a deletion wants to know. The counters are some seconds old, and the check and the deletion are two
        requests.
        """
        try:
            if isinstance(desired, Queue):
                item = await self._api.get("queue", build_api_path("queues", desired.vhost, desired.name))
                return None if item is None else parse_queue_state(expect_object(item), state.policy)
            if isinstance(desired, Exchange):
                binding_paths = [
                    build_api_path("exchanges", desired.vhost, desired.name, "bindings", end)
                    for end in ("source", "destination")
                ]
                bound = [await self._api.get("bindings", way) for way in binding_paths]
                return ExchangeState(state.body, bound=any(bound))
        except RequestRefused as error:
            return Refusal(str(error))
        return state
