"""A connecting is never left half done: whoever waits for it goes when it has ended."""

import asyncio

import pytest

from caravan.bus import opening
from caravan.bus.opening import OpeningTurns, finish_opening


class Connecting:
    """A client's connecting, which the test ends."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.was_cancelled = False

    async def run(self) -> str:
        self.has_begun.set()
        try:
            return await self.outcome
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def start_opening() -> tuple[Connecting, asyncio.Task[str]]:
    connecting = Connecting()
    user = asyncio.create_task(finish_opening(connecting.run()))
    await connecting.has_begun.wait()
    return connecting, user


async def run_loop_once() -> None:
    """Let everything that is ready take its next steps."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_its_result_and_its_error_are_the_users() -> None:
    connecting, user = await start_opening()
    connecting.outcome.set_result("connected")
    assert await user == "connected"
    connecting, user = await start_opening()
    connecting.outcome.set_exception(ConnectionRefusedError("nobody there"))
    with pytest.raises(ConnectionRefusedError, match="nobody there"):
        await user


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_cancelled_user_goes_only_when_the_connecting_has_ended(cancellations: int) -> None:
    connecting, user = await start_opening()
    for _ in range(cancellations):
        user.cancel()
        await run_loop_once()
    assert not user.done()
    connecting.outcome.set_result("connected, and now known to the client that closes it")
    with pytest.raises(asyncio.CancelledError):
        await user
    assert not connecting.was_cancelled


async def test_an_error_that_comes_after_the_user_has_gone_is_dropped() -> None:
    connecting, user = await start_opening()
    user.cancel()
    await run_loop_once()
    connecting.outcome.set_exception(ConnectionResetError())
    with pytest.raises(asyncio.CancelledError):
        await user


async def test_a_deadline_of_the_user_is_a_deadline_still() -> None:
    connecting = Connecting()
    asyncio.get_running_loop().call_later(0.02, connecting.outcome.set_result, "connected")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await finish_opening(connecting.run())
    assert connecting.outcome.done()
    assert not connecting.was_cancelled


async def test_a_broker_that_hangs_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_LONGER_SECONDS", 0.01)
    connecting, user = await start_opening()
    user.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await user
    assert connecting.was_cancelled


async def test_those_who_waited_while_it_failed_hear_the_same_and_whoever_comes_later_tries_again() -> None:
    turns, answer, attempts = OpeningTurns(), asyncio.Event(), 0

    async def open_once() -> None:
        nonlocal attempts
        async with turns.take_turn():
            attempts += 1
            await answer.wait()
            if attempts == 1:
                raise ConnectionRefusedError("nobody there")

    users = [asyncio.create_task(open_once()) for _ in range(5)]
    await run_loop_once()
    answer.set()
    errors = await asyncio.gather(*users, return_exceptions=True)
    assert [(type(error), str(error)) for error in errors] == [(ConnectionRefusedError, "nobody there")] * 5
    assert attempts == 1
    await asyncio.gather(*(open_once() for _ in range(2)))
    assert attempts == 3


async def test_one_who_is_cancelled_in_his_turn_leaves_it_to_the_next() -> None:
    turns = OpeningTurns()

    async def open_for_ever() -> None:
        async with turns.take_turn():
            await asyncio.Event().wait()

    async def open_at_once() -> str:
        async with turns.take_turn():
            return "opened"

    first, second = asyncio.create_task(open_for_ever()), asyncio.create_task(open_at_once())
    await run_loop_once()
    first.cancel()
    assert await second == "opened"
