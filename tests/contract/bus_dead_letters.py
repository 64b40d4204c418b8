"""Promises of the bus: what is given up is a dead letter, can be redriven, and is never lost."""

import asyncio
from dataclasses import replace

import orjson

from caravan.bus import DONE, Bus, HandlingResult, IncomingMessage, Result, Subscription
from caravan.messages import (
    MAX_BYTES,
    Queue,
    RetryPolicy,
    Topic,
)
from tests.contract.bus_case import BusCase
from tests.contract.bus_messages import (
    WAIT_SECONDS,
    Recorder,
    fetch_dead_letters,
    has_at_least,
    make_outgoing,
    make_raw_outgoing,
    read_message_number,
    run_consumers,
)
from tests.support.shop import wait_until


class DeadLetterContract(BusCase):
    async def test_used_up_attempts_end_in_the_dead_letters_and_the_key_goes_on(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader = await self.declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "broken for good") if read_message_number(i) == 0 else DONE
        )
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish([make_outgoing(channel, number, "key") for number in range(3)])
            await wait_until(lambda: has_at_least(recorder, 2))
            dead_letters = await wait_until(lambda: bus.list_dead_letters([reader]))
        assert recorder.numbers_by_key["key"] == [1, 2]
        assert [
            (dead_letter.reason, dead_letter.key, dead_letter.channel, dead_letter.attempt)
            for dead_letter in dead_letters
        ] == [("broken for good", "key", channel.name, 3)]

    async def test_the_dead_letters_of_one_key_are_found_among_others(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self.declare_reader(bus, channel)
        recorder = Recorder(lambda i: HandlingResult(Result.DEAD, "poison"))
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish([make_outgoing(channel, number, f"key-{number % 3}") for number in range(9)])
            await wait_until(lambda: has_dead_letters(bus, reader, 9))
        found = await bus.list_dead_letters([reader], key="key-1")
        assert [dead_letter.key for dead_letter in found] == ["key-1"] * 3
        assert len(await bus.list_dead_letters([reader], key="key-1", limit=2)) == 2
        assert await bus.list_dead_letters([reader], key="key") == []

    async def test_what_was_held_behind_a_message_given_up_at_once_is_not_overtaken(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        channel = replace(channel, retry=RetryPolicy(()))
        reader = await self.declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "broken for good") if read_message_number(i) == 0 else DONE
        )
        follows = [make_outgoing(channel, number, "key") for number in (2, 3)]

        async def handle_and_publish(batch: list[IncomingMessage]) -> list[HandlingResult]:
            results = await recorder.process_batch(batch)
            if follows and any(read_message_number(incoming) == 0 for incoming in batch):  # with 1 behind it, mostly
                await bus.publish(follows)
                follows.clear()
            return results

        await bus.publish([make_outgoing(channel, number, "key") for number in (0, 1)])
        async with run_consumers(bus, (reader, handle_and_publish)):
            await wait_until(lambda: has_at_least(recorder, 3), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [1, 2, 3]

    async def test_what_was_held_behind_a_message_given_up_waits_for_nobody(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        channel = replace(channel, retry=RetryPolicy(()))
        reader = await self.declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "broken for good") if read_message_number(i) == 0 else DONE
        )
        await bus.publish([make_outgoing(channel, number, "key") for number in range(3)])
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(
                lambda: has_at_least(recorder, 2)
            )  # within less than the slow poll of who is told of every message
        assert recorder.numbers_by_key["key"] == [1, 2]

    async def test_a_rejected_message_is_a_dead_letter_at_once_and_can_be_redriven(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader = await self.declare_reader(bus, channel)
        refuse = True
        recorder = Recorder(
            lambda i: HandlingResult(Result.DEAD, "poison") if refuse and read_message_number(i) == 1 else DONE
        )
        async with run_consumers(bus, (reader, recorder.process_batch)):
            message = [make_outgoing(channel, number, f"key-{number}") for number in range(3)]
            await bus.publish(message)
            dead_letters = await wait_until(lambda: bus.list_dead_letters([reader]))
            await wait_until(lambda: has_at_least(recorder, 2))
            refuse = False
            assert await bus.redrive(dead_letters[:1]) == 1
            await wait_until(lambda: has_at_least(recorder, 3))
        assert dead_letters[0].body == message[1].body, "redriven with its message id"
        assert await bus.list_dead_letters([reader]) == []

    async def test_poison_of_five_kinds_lands_in_the_dead_letters_and_the_good_around_it_is_done(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader, recorder = await self.declare_reader(bus, channel), Recorder()
        envelope = orjson.loads(make_outgoing(channel, 0, "x").body)
        poison = {
            "bad-json": b'{"type": "test.Ping", "data": {',
            "unknown-type": orjson.dumps({**envelope, "type": "somebody.Else"}),
            "newer-version": orjson.dumps({**envelope, "dataversion": 99}),
            "ten-megabytes": b'{"data": "' + b"x" * (10 * 1024 * 1024) + b'"}',
            "": orjson.dumps(envelope),
        }
        async with run_consumers(bus, (reader, recorder.decode_batch)):
            for index, (key, body) in enumerate(poison.items()):
                await bus.publish(
                    [
                        make_outgoing(channel, number, f"good-{number % 5}")
                        for number in range(index * 200, index * 200 + 200)
                    ]
                )
                await self.send_raw(bus, make_raw_outgoing(channel, key, body))
            await wait_until(lambda: has_at_least(recorder, 1000), seconds=WAIT_SECONDS)
            dead_letters = {
                dead_letter.key: dead_letter
                for dead_letter in await wait_until(
                    lambda: fetch_dead_letters(bus, reader, len(poison)), seconds=WAIT_SECONDS
                )
            }
        assert {
            key: dead_letter.reason.split(":")[0].split(" is newer")[0] for key, dead_letter in dead_letters.items()
        } == {
            "bad-json": "not JSON",
            "unknown-type": "unknown type 'somebody.Else'",
            "newer-version": f"{envelope['type']} version 99",
            "ten-megabytes": f"{len(poison['ten-megabytes'])} bytes, over the limit of {MAX_BYTES}",
            "": "no key",
        }
        assert {dead_letter.channel for dead_letter in dead_letters.values()} == {channel.name}
        assert dead_letters["ten-megabytes"].size == len(poison["ten-megabytes"])

    async def test_a_key_of_any_length_harms_only_its_own_message(self, bus: Bus, channel: Topic | Queue) -> None:
        """It is retried, given up and kept, and cannot be redriven where its key was cut."""
        reader, key = await self.declare_reader(bus, channel), "k" * self.longest_key
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "broken " * 1_000) if i.key.startswith("kk") else DONE
        )
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await self.send_raw(bus, make_raw_outgoing(channel, key, make_outgoing(channel, 0, "key").body))
            await bus.publish([make_outgoing(channel, number, "good") for number in range(1, 4)])
            (dead_letter,) = await wait_until(lambda: fetch_dead_letters(bus, reader, 1), seconds=WAIT_SECONDS)
            await wait_until(lambda: has_at_least(recorder, 3), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["good"] == [1, 2, 3]
        assert key.startswith(dead_letter.key)
        is_whole = dead_letter.key == key
        assert dead_letter.redrivable == is_whole
        assert await bus.redrive([dead_letter]) == is_whole

    async def test_looking_at_dead_letters_and_restarting_readers_never_loses_anything(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        """A broker that counts deliveries must not count these: 25 looks, 25 readers that die with a message in
        hand.
        """
        reader = await self.declare_reader(bus, channel)
        recorder_of_dead = Recorder(
            lambda i: HandlingResult(Result.DEAD, "poison") if read_message_number(i) < 3 else DONE
        )
        async with run_consumers(bus, (reader, recorder_of_dead.process_batch)):
            await bus.publish([make_outgoing(channel, number, f"key-{number}") for number in range(4)])
            await wait_until(lambda: fetch_dead_letters(bus, reader, 3), seconds=WAIT_SECONDS)
        for _ in range(25):
            assert sorted(
                read_message_number(dead_letter) for dead_letter in await bus.list_dead_letters([reader])
            ) == [0, 1, 2]
        await bus.publish([make_outgoing(channel, 9, "key")])
        if isinstance(channel, Queue):  # a group of a topic takes seconds to notice each death
            for _ in range(25):
                await self.cancel_with_message_in_hand(bus, reader)
        recorder = Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 1), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [9]

    async def cancel_with_message_in_hand(self, bus: Bus, reader: Subscription) -> None:
        message_taken = asyncio.Event()

        async def hang_forever(_: list[IncomingMessage]) -> list[HandlingResult]:
            message_taken.set()
            await asyncio.Event().wait()
            return []

        async with run_consumers(bus, (reader, hang_forever)):
            await asyncio.wait_for(message_taken.wait(), WAIT_SECONDS)

    async def test_letters_of_one_message_and_of_none_are_told_apart_and_redriven_in_order(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        """The same message twice, and two without a key: four letters; some are discarded, the others come again in the
        order they died.
        """
        reader = await self.declare_reader(bus, channel)
        broken = True
        recorder = Recorder(lambda _: HandlingResult(Result.DEAD, "poison") if broken else DONE)
        twice = make_outgoing(channel, 1, "key")
        async with run_consumers(bus, (reader, recorder.process_batch)):
            for message in (
                twice,
                twice,
                *(make_raw_outgoing(channel, "", make_outgoing(channel, number, "").body) for number in (7, 8)),
            ):
                await self.send_raw(bus, message)
            await bus.publish([make_outgoing(channel, number, "key") for number in (2, 3)])
            dead_letters = await wait_until(lambda: fetch_dead_letters(bus, reader, 6), seconds=WAIT_SECONDS)
            assert len({dead_letter.id for dead_letter in dead_letters}) == 6
            duplicate = [
                dead_letter
                for dead_letter in dead_letters
                if dead_letter.key == "key" and read_message_number(dead_letter) == 1
            ][1]
            assert await bus.discard([duplicate]) == 1
            broken = False
            remaining = await bus.list_dead_letters([reader], preview=10)
            assert len(remaining) == 5
            assert {len(dead_letter.body) for dead_letter in remaining} == {10}
            assert next(dead_letter for dead_letter in remaining if dead_letter.key == "key").size == len(twice.body)
            assert await bus.redrive(remaining) == 5
            await wait_until(lambda: has_at_least(recorder, 5), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [1, 2, 3]
        assert sorted(recorder.numbers_by_key[""]) == [7, 8]
        assert [i.attempt for i in recorder.messages if read_message_number(i) == 2] == [1, 1]
        assert await bus.list_dead_letters([reader]) == []


async def has_dead_letters(bus: Bus, reader: Subscription, count: int) -> bool:
    return len(await bus.list_dead_letters([reader])) == count
