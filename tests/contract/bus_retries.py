"""Promises of the bus: a message that fails is tried again, and delays only its key."""

import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

from caravan.bus import DONE, Bus, HandlingResult, IncomingMessage, Result
from caravan.messages import (
    Queue,
    RetryPolicy,
    Topic,
)
from tests.contract.bus_case import BusCase
from tests.contract.bus_messages import (
    LATE,
    WAIT_SECONDS,
    Recorder,
    fetch_dead_letters,
    has_at_least,
    has_recorded,
    make_outgoing,
    make_queue,
    make_topic,
    read_message_number,
    run_consumers,
)
from tests.support.shop import wait_until


class RetryContract(BusCase):
    async def test_a_failing_message_is_tried_again_and_not_overtaken_by_its_key(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader = await self.declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "not yet") if read_message_number(i) == 0 and i.attempt < 3 else DONE
        )
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish(
                [make_outgoing(channel, number, "slow" if number < 5 else "other") for number in range(10)]
            )
            await wait_until(lambda: has_at_least(recorder, 10))
        assert recorder.numbers_by_key["slow"] == [0, 1, 2, 3, 4]
        assert [i.attempt for i in recorder.messages if read_message_number(i) == 0] == [1, 2, 3]

    async def test_a_waiting_key_does_not_hold_up_others(self, bus: Bus, channel: Topic | Queue) -> None:
        channel = replace(
            channel, retry=RetryPolicy((3.0,))
        )  # long enough for a busy machine to do the others meanwhile
        reader = await self.declare_reader(bus, channel)
        order: list[int] = []

        def decide(incoming: IncomingMessage) -> HandlingResult:
            order.append(read_message_number(incoming))
            return (
                HandlingResult(Result.RETRY, "down")
                if read_message_number(incoming) == 0 and incoming.attempt == 1
                else DONE
            )

        recorder = Recorder(decide)
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish(
                [make_outgoing(channel, number, "bad" if number == 0 else f"good-{number}") for number in range(5)]
            )
            await wait_until(lambda: has_at_least(recorder, 5))
        assert order[-1] == 0, "the others were done before the failing one's second attempt"

    async def test_trouble_of_the_infrastructure_costs_no_attempt(self, bus: Bus, channel: Topic | Queue) -> None:
        reader, recorder, failures_left = await self.declare_reader(bus, channel), Recorder(), 3

        async def fail_then_handle(batch: list[IncomingMessage]) -> list[HandlingResult]:
            nonlocal failures_left
            if failures_left:
                failures_left -= 1
                raise ConnectionError("the database is away")
            return await recorder.process_batch(batch)

        async with run_consumers(bus, (reader, fail_then_handle)):
            await bus.publish([make_outgoing(channel, 7, "key")])
            await wait_until(lambda: has_at_least(recorder, 1))
        assert [i.attempt for i in recorder.messages] == [1]

    async def test_what_lines_up_behind_a_message_does_not_put_off_its_next_attempt(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        slow = (
            make_topic(RetryPolicy(delays=(1.5,)))
            if isinstance(channel, Topic)
            else make_queue(RetryPolicy(delays=(1.5,)))
        )
        reader = await self.declare_reader(bus, slow)
        times: list[float] = []

        def verdict(incoming: IncomingMessage) -> HandlingResult:
            times.append(time.monotonic())
            return HandlingResult(Result.RETRY, "broken") if len(times) == 1 else DONE

        seen = Recorder(verdict)
        async with run_consumers(bus, (reader, seen.process_batch)):
            await bus.publish([make_outgoing(slow, 0, "k")])
            await wait_until(lambda: has_recorded(seen, 1), seconds=WAIT_SECONDS)
            number = 0
            while len(times) == 1 and time.monotonic() < times[0] + 4.5:
                number += 1
                await bus.publish([make_outgoing(slow, number, "k")])
                with suppress(AssertionError):
                    await wait_until(lambda: has_recorded(seen, 2), seconds=0.3)
            await wait_until(lambda: has_at_least(seen, number + 1), seconds=WAIT_SECONDS)
        assert seen.numbers_by_key["k"] == list(range(number + 1))
        assert times[1] - times[0] < 1.5 + LATE

    async def test_retries_come_at_the_stated_delays_and_delay_nobody_else(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        retry = RetryPolicy(delays=(0.3, 0.9))
        slow = make_topic(retry) if isinstance(channel, Topic) else make_queue(retry)
        reader = await self.declare_reader(bus, slow)
        times: list[float] = []
        latency: list[float] = []
        sent_at: dict[int, float] = {}

        def decide(incoming: IncomingMessage) -> HandlingResult:
            now = time.monotonic()
            if incoming.key == "bad":
                times.append(now)
                return HandlingResult(Result.RETRY, "broken")
            latency.append(now - sent_at[read_message_number(incoming)])
            return DONE

        recorder = Recorder(decide)
        async with run_consumers(bus, (reader, recorder.process_batch)):
            sent_at[0] = time.monotonic()
            await bus.publish([make_outgoing(slow, 0, "warm")])
            await wait_until(lambda: has_at_least(recorder, 1), seconds=WAIT_SECONDS)
            await bus.publish([make_outgoing(slow, 1, "bad")])
            for number in range(2, 60):
                sent_at[number] = time.monotonic()
                await bus.publish([make_outgoing(slow, number, f"good-{number}")])
            await wait_until(lambda: fetch_dead_letters(bus, reader, 1), seconds=WAIT_SECONDS)
            await wait_until(lambda: has_at_least(recorder, 59), seconds=WAIT_SECONDS)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(gaps) == 2 and 0.29 <= gaps[0] < 0.29 + LATE and 0.89 <= gaps[1] < 0.89 + LATE, gaps
        assert sorted(latency[1:])[len(latency) // 2] < 0.3, "half of the others took less than the first delay"
