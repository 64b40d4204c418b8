"""One pass over a batch of resources of one connection: look, compare, change, look again, say. Created, changed, resumed and swept resources take the same way."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from caravan_operator.backends.broker import BrokerAway, Refused, deadline
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.handlers.cache import Cache
from caravan_operator.handlers.connections import Connections, Opened
from caravan_operator.handlers.endings import Endings
from caravan_operator.handlers.item import Item, together
from caravan_operator.handlers.lease import LeaseLost
from caravan_operator.handlers.namespaces import Namespaces
from caravan_operator.handlers.queue import Lane, WorkQueue
from caravan_operator.handlers.writes import Stale, Writes
from caravan_operator.reconcile import RULES, read
from caravan_operator.reconcile.decide import Decision
from caravan_operator.reconcile.gate import gate, invalid, rival
from caravan_operator.reconcile.rabbitmq_call import Call
from caravan_operator.resources import KINDS
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, DRIFTED, PAUSED, SYNCED, Condition
from caravan_operator.status.document import Event, lines
from caravan_operator.status.metrics import DRIFT, RECONCILE_ERRORS, RECONCILES, WRITES
from caravan_operator.status.reasons import Reason

log = logging.getLogger(__name__)
PATIENT = 3
"""Passes that may leave a difference before the status says so: a broker needs a moment to show what it has done."""
LONGEST_CHECK, LONGEST_PASS = 120.0, 300.0
"""Seconds, however slowly each request is answered; with the deletions less than what the probe allows a batch."""


class Batch:
    """What one connection's worker calls with the keys that are due."""

    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        connections: Connections,
        namespaces: Namespaces,
        writes: Writes,
        endings: Endings,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._connections = connections
        self._namespaces = namespaces
        self._writes = writes
        self._endings = endings

    async def run(self, group: Key, keys: Sequence[Key]) -> None:
        """A pass that fails for a reason nobody foresaw is made again in halves: the resource that is the reason fails alone."""
        try:
            await self._pass(group, keys)
        except LeaseLost:
            raise
        except Exception:
            if len(keys) > 1:
                half = len(keys) // 2
                await self.run(group, keys[:half])
                await self.run(group, keys[half:])
                return
            log.exception("a pass failed", extra={"connection": group.path, "key": keys[0].path, "kind": keys[0].kind})
            RECONCILE_ERRORS.labels(keys[0].kind).inc()
            self._queue.retry(keys[0], group)

    async def _pass(self, group: Key, keys: Sequence[Key]) -> None:
        connection = self._cache.get(group)
        resources = [resource for key in keys if (resource := self._cache.get(key)) is not None]
        if connection is not None and group in keys:
            await self._connection(connection)
            connection = self._cache.get(group) or connection
        owned = [resource for resource in resources if resource.key.kind in RULES]
        going = [resource for resource in owned if resource.deleted is not None]
        await self._endings.run(connection, going)
        staying = [resource for resource in owned if resource.deleted is None]
        items = [item for resource in staying if (item := await self._admit(resource, connection)) is not None]
        if connection is None or not items:
            return
        try:
            async with deadline(LONGEST_PASS):
                opened = await self._connections.open(connection)
                for kind in KINDS:
                    same = [item for item in items if item.resource.key.kind == kind]
                    if same:
                        await self._kind(kind, same, opened)
                        items = [item for item in items if item.resource.key.kind != kind]
        except BrokerAway as error:
            await self._away(connection, items, error)

    async def _connection(self, connection: Resource) -> None:
        """The connection's own status; when it is back after a failure everything that it serves is looked at again."""
        name = connection.key
        if connection.paused:
            await self._write(connection, [Condition(PAUSED, True, Reason.PAUSED, "nothing that it serves is changed")], {})
            return
        if (refused := invalid(connection)) is not None:
            await self._write(connection, [refused, Condition(SYNCED, None, refused.reason, refused.message)], {})
            return
        try:
            async with deadline(LONGEST_CHECK):
                opened, facts = await self._connections.check(connection)
        except BrokerAway as error:
            pause = self._connections.failed(name, error)
            said = [Condition(CONNECTION_READY, False, error.reason, str(error)), Condition(SYNCED, None, error.reason, str(error))]
            await self._write(connection, said, {"reachable": False, "circuit": "Open"})
            self._queue.add(name, name, Lane.RETRY, pause)
            return
        was_open = self._connections.succeeded(name)
        said = [
            Condition(ACCEPTED, True, Reason.ACCEPTED),
            Condition(CONNECTION_READY, True, Reason.REACHABLE),
            Condition(SYNCED, True, Reason.IN_SYNC),
        ]
        if connection.condition(PAUSED):
            said.append(Condition(PAUSED, False, Reason.RUNNING))
        ready = connection.condition(CONNECTION_READY)
        same_spec = connection.status.get("observedGeneration") == connection.generation
        rotated = same_spec and connection.status.get("connectionHash") not in (None, opened.hash)
        told = [Event(Reason.CREDENTIALS_ROTATED, "the new credentials are in use")] if rotated else []
        await self._write(connection, said, {**facts, "reachable": True, "circuit": "Closed", "connectionHash": opened.hash}, told=told)
        if was_open or ready is None or ready["status"] != "True":
            for key in self._cache.served_by(name):
                self._queue.add(key, name, Lane.RETRY)

    async def _admit(self, resource: Resource, connection: Resource | None) -> Item | None:
        """An item for the broker, or None when the pass ends here with a condition."""
        older = rival(resource, self._cache.rivals_of(resource))
        stopped = gate(resource, connection, older, await self._namespaces.labels(resource, connection))
        if stopped is None:
            try:
                return Item(resource, RULES[resource.key.kind], read(resource))
            except UnusableSpec as error:
                stopped = Condition(ACCEPTED, False, Reason.INVALID, str(error))
        facts: dict[str, Any] = {"conflict": older.key.path if older and stopped.reason is Reason.CONFLICT else None}
        said = [stopped] if stopped.type == PAUSED else [stopped, Condition(SYNCED, None, stopped.reason, stopped.message)]
        await self._write(resource, said, facts, "waiting")
        return None

    async def _kind(self, kind: str, items: list[Item], opened: Opened) -> None:
        broker = opened.broker
        states = await broker.observe(kind, [item.wanted for item in items])
        lost = [(item, state) for item, state in zip(items, states, strict=True) if isinstance(state, Refused)]
        await together(self._refused(item, refused) for item, refused in lost)
        answered = [(item, state) for item, state in zip(items, states, strict=True) if not isinstance(state, Refused)]
        items = [item for item, _ in answered]
        for item, state in answered:
            item.judge(state)
        acting = [item for item in items if item.decision.actions]
        settled = [item for item in items if not item.decision.actions]
        if acting:
            await self._act(kind, acting, opened)
        planned = [item for item in settled if item.findings.actions and item.resource.spec.get("mode") == "Plan"]
        for item, refused in zip(planned, await broker.apply([item.findings.actions for item in planned], dry=True), strict=True):
            if refused is not None:
                plan = lines([*(action.line for action in item.findings.actions), f"the broker would refuse: {refused.message}"])
                item.decision = replace(item.decision, facts={**item.decision.facts, "plan": plan})
        await together(self._say(item, opened) for item in settled)

    async def _act(self, kind: str, acting: list[Item], opened: Opened) -> None:
        """Claim what is about to be created, apply, and look again."""
        claimed = await together(self._claim(item) for item in acting)
        acting = [item for item, ready in zip(acting, claimed, strict=True) if ready]
        answers = await opened.broker.apply([item.decision.actions for item in acting])
        done = [item for item, refused in zip(acting, answers, strict=True) if refused is None]
        first = {id(item): item.decision for item in done}
        for item in done:
            self._count(kind, item)
        states = await opened.broker.observe(kind, [item.wanted for item in done]) if done else []
        for item, state in zip(done, states, strict=True):
            item.judge(None if isinstance(state, Refused) else state, applied=True)
        await together(self._say(item, opened, first[id(item)]) for item in done)
        await together(self._refused(item, refused) for item, refused in zip(acting, answers, strict=True) if refused is not None)

    async def _claim(self, item: Item) -> bool:
        if not item.decision.claims:
            return True
        try:
            item.resource = await self._writes.claim(item.resource, finalizer=_holds(item.resource))
        except Stale:
            self._again(item.resource)
            return False
        except ApiError as error:
            self._failed(item.resource, error)
            return False
        return True

    def _count(self, kind: str, item: Item) -> None:
        """What the broker has taken: metrics, the log, and those that hang on a new object."""
        group = self._cache.connection_of(item.resource)
        for action in item.decision.actions:
            WRITES.labels(kind, type(action).__name__).inc()
            log.info(
                "applied",
                extra={"key": item.resource.key.path, "kind": kind, "generation": item.resource.generation, "action": action.line},
            )
            if isinstance(action, Call) and action.creates:
                for key in self._cache.needing(group, action.creates):
                    self._queue.add(key, group, Lane.NEW)
        if item.decision.drifted:
            DRIFT.labels(kind, "corrected").inc()

    async def _say(self, item: Item, opened: Opened, first: Decision | None = None) -> None:
        """Write the status that a settled decision leaves; a decision that still has actions comes again."""
        resource = item.resource
        if item.decision.actions:
            if self._queue.attempts(resource.key) < PATIENT:
                self._again(resource)
                return
            left = "; ".join(lines(action.line for action in item.decision.actions))
            said = [Condition(SYNCED, False, Reason.NOT_CONVERGING, f"the broker took the change and does not show it: {left}")]
            await self._write(resource, said, {}, "error")
            self._again(resource)
            return
        if item.decision.drifted and (resource.condition(DRIFTED) or {}).get("status") != "True":
            DRIFT.labels(resource.key.kind, "reported").inc()
        try:
            if item.decision.facts.get("origin"):
                item.resource = resource = await self._writes.finalizer(resource, wanted=_holds(resource))
        except (Stale, ApiError) as error:
            self._failed(resource, error)
            return
        facts = {**item.decision.facts, "connectionHash": opened.hash}
        told = [*(first.events if first else ()), *item.decision.events]
        waiting = item.findings.waiting is not None
        written = await self._write(resource, item.decision.conditions, facts, "waiting" if waiting else "success", told)
        if waiting:
            self._queue.retry(resource.key, self._cache.connection_of(resource))
        elif written:
            self._queue.forget(resource.key)

    async def _refused(self, item: Item, refused: Refused) -> None:
        said = [
            Condition(ACCEPTED, True, Reason.ACCEPTED),
            Condition(CONNECTION_READY, True, Reason.REACHABLE),
            Condition(SYNCED, False, Reason.BROKER_REFUSED, refused.message),
        ]
        await self._write(item.resource, said, {"plan": None}, "error")
        self._again(item.resource)

    async def _away(self, connection: Resource, items: list[Item], error: BrokerAway) -> None:
        """The broker doesn't answer: say so once on each, and leave the next trial to the connection's own pass."""
        pause = self._connections.failed(connection.key, error)
        self._queue.add(connection.key, connection.key, Lane.RETRY, pause)
        said = [Condition(CONNECTION_READY, False, error.reason, str(error))]
        await together(
            self._write(
                item.resource, said if item.resource.applied else [*said, Condition(SYNCED, None, error.reason, str(error))], {}, "waiting"
            )
            for item in items
        )

    async def _write(
        self, resource: Resource, conditions: Iterable[Condition], facts: dict[str, Any], result: str = "success", told: Any = ()
    ) -> bool:
        try:
            await self._writes.status(resource, conditions, facts, told)
        except (Stale, ApiError) as error:
            self._failed(resource, error)
            return False
        RECONCILES.labels(resource.key.kind, result).inc()
        if result == "error":
            RECONCILE_ERRORS.labels(resource.key.kind).inc()
        return True

    def _failed(self, resource: Resource, error: Exception) -> None:
        if not isinstance(error, Stale):
            log.warning("not written", extra={"key": resource.key.path, "error": str(error)})
            RECONCILE_ERRORS.labels(resource.key.kind).inc()
        self._again(resource)

    def _again(self, resource: Resource) -> None:
        RECONCILES.labels(resource.key.kind, "requeue").inc()
        self._queue.retry(resource.key, self._cache.connection_of(resource))


def _holds(resource: Resource) -> bool:
    """Whether a deletion has something to do, so that the resource must wait for it."""
    return resource.spec.get("deletionPolicy", "Retain") != "Retain" and resource.spec.get("mode") != "Plan"
