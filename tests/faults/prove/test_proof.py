"""The proof itself: its schedule follows from the seed, each fault leaves evidence, what customers don't know is not
taken for refused, and a proof that was stopped goes on.
"""

import asyncio
import os
import random
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx2
import orjson
import pytest

from caravan.clock import new_id
from caravan.runtime import Backends
from tests.faults.prove.brokers import Brokers, Node, require_brokers
from tests.faults.prove.checks import INVARIANTS, sort_by_invariant
from tests.faults.prove.customers import Customers, Intents, classify
from tests.faults.prove.kinds import BROKERS, CLUSTER, KINDS, LAPTOP, explain_left_out, list_runnable
from tests.faults.prove.plan import draw_plan
from tests.faults.prove.report import build_report
from tests.faults.prove.run import Proof
from tests.faults.prove.shifted_clock import build_clock_settings, explain_no_clock, shift_clock
from tests.faults.prove.shop import ProvenShop
from tests.faults.prove.small_disk import explain_no_disk, fill_disk, free_disk, mount_small_disk
from tests.faults.prove.strikes import Strikes
from tests.faults.prove.traces import Traces, keep_spans, read_spans
from tests.support.backends import Unavailable
from tests.support.program import ROOT, Program
from tests.support.shop import wait_until

LEAST_KINDS = 21
RESET_SECONDS = 5
START_SECONDS = 60


def test_the_same_seed_draws_the_same_plan_and_another_seed_another() -> None:
    assert draw_plan(1, 500, LAPTOP) == draw_plan(1, 500, LAPTOP)
    assert draw_plan(1, 500, LAPTOP) != draw_plan(2, 500, LAPTOP)


@pytest.mark.parametrize(("orders", "times"), [(500, 1), (25_000, 10)])
def test_every_kind_strikes_as_often_as_the_orders_allow(orders: int, times: int) -> None:
    plan = draw_plan(7, orders, LAPTOP)
    runnable = [kind.name for kind in list_runnable(LAPTOP)]
    assert len(runnable) >= LEAST_KINDS
    assert {kind: [fault.kind for fault in plan].count(kind) for kind in runnable} == dict.fromkeys(runnable, times)
    afters = [fault.after_orders for fault in plan]
    assert afters == sorted(afters)
    assert afters[-1] < orders


def test_every_kind_says_on_which_sizes_it_runs() -> None:
    assert all(kind.sizes and set(kind.sizes) <= {LAPTOP, BROKERS, CLUSTER} for kind in KINDS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("size", [LAPTOP, BROKERS])
def test_every_kind_strikes_or_says_why_it_does_not(tmp_path: Path, size: str) -> None:
    backends, node = Backends("", "", ""), Node("kafka", tmp_path, [], {}, bool)
    brokers = Brokers(node, node, "", "", "") if size == BROKERS else None
    shop = ProvenShop(tmp_path, backends, {}, {}, brokers)
    program = Program("http://127.0.0.1", tmp_path, [])
    customers = Customers(program, Intents(tmp_path / "intents.jsonl"), 1, random.Random(1), lambda: 1)
    struck = Strikes(shop, customers).by_kind.keys()
    left_out = explain_left_out(size)
    assert {kind.name for kind in KINDS} - struck <= left_out.keys()
    assert all(left_out.values())
    assert {kind.name for kind in list_runnable(size)} == {kind.name for kind in KINDS} - left_out.keys()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (202, "ok"),
        (409, "failed"),
        (422, "failed"),
        (429, "unknown"),
        (500, "unknown"),
        (503, "unknown"),
        (None, "unknown"),
    ],
)
def test_what_has_no_answer_is_unknown_and_not_failed(status: int | None, outcome: str) -> None:
    assert classify(status) == outcome


def test_intents_are_known_again_after_an_interruption(tmp_path: Path) -> None:
    intents = Intents(tmp_path / "intents.jsonl")
    for key in ("answered", "lost"):
        intents.write(do="place", key=key)
    intents.write(do="place", key="answered", order="1", status=202, **{"is": "ok"})
    intents.write(do="place", key="lost", order="", status=None, **{"is": "unknown"})
    with intents.file.open("ab") as out:
        out.write(b'{"do": "pla')  # killed while it wrote
    again = Intents.load(intents.file)
    assert (again.accepted, again.unknown) == ({"answered": "1"}, {"lost"})
    again.write(do="place", key="answered", order="2", status=202, **{"is": "ok"})
    assert again.contradictions != []


async def test_customers_order_beyond_the_plan_while_a_strike_waits_for_what_they_do(tmp_path: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        status = {"/v1/orders": 202, "/v1/auth/token": 200}.get(request.url.path, 201)
        return httpx2.Response(status, json={"id": str(new_id()), "access_token": "token"})

    program = Program("http://shop", tmp_path, [], secret="a secret of this test alone, no other's")
    program.client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url="http://shop")
    customers = Customers(program, Intents(tmp_path / "intents.jsonl"), 2, random.Random(1), lambda: 2)
    tasks = await customers.come(1)
    accepted = customers.intents.accepted

    async def has(count: int) -> bool:
        return len(accepted) >= count

    await wait_until(partial(has, 2), seconds=RESET_SECONDS)
    ordering = asyncio.create_task(customers.keep_ordering())
    await wait_until(partial(has, 3), seconds=RESET_SECONDS)
    ordering.cancel()
    customers.is_closing = True
    await asyncio.wait_for(asyncio.gather(*tasks), RESET_SECONDS)


def test_every_violation_stands_under_its_invariant() -> None:
    texts = {
        "accepted order 1 is not stored": "I1",
        "order 1 rests as paid": "I2",
        "the provider charged 1 2 times": "I3",
        "stock of A: 1 here + 0 shipped is not 2 received + 0 adjusted": "I4",
        "A has 1 reserved with every order at rest": "I5",
        "two notifications order_received about 1": "I6",
        "orders.order-shipped never handled 1 of 2 messages": "I7",
        "versions of 1 have holes": "I8",
        "read model order_summary: differed": "I9",
        "after the restart: accepted order 1 is not stored": "I10",
        "2 orphan consumer spans in the traces": "I11",
        "the accepted cancellation of 1 left it delivered, requested": "I12",
    }
    found = sort_by_invariant(list(texts))
    assert {text: name for name, each in found.items() for text in each} == texts
    assert set(texts.values()) == set(INVARIANTS)


async def test_where_no_brokers_are_the_proof_says_which_and_exits_75(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.prove", "--size", BROKERS, "--folder", str(tmp_path / "proof")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}  # there are no jars
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), START_SECONDS)
    assert process.returncode == 75
    assert "Kafka" in errors.decode()
    assert not (tmp_path / "proof").exists()


def test_a_full_disk_takes_no_more_and_has_space_again_afterwards(tmp_path: Path) -> None:
    if reason := explain_no_disk():
        pytest.skip(reason)
    folder = tmp_path / "mounted"
    with mount_small_disk(tmp_path / "disk", folder):
        (folder / "kept").write_text("kept")
        fill_disk(folder)
        with pytest.raises(OSError, match="No space left"):
            (folder / "more").write_bytes(bytes(100_000))
        free_disk(folder)
        (folder / "more").write_bytes(bytes(100_000))
    assert not folder.is_mount()
    with mount_small_disk(tmp_path / "disk", folder):
        assert (folder / "kept").read_text() == "kept"


async def test_a_shifted_clock_jumps_in_a_running_process_and_comes_back(tmp_path: Path) -> None:
    if reason := explain_no_clock():
        pytest.skip(reason)
    file = tmp_path / "clock"
    script = "import time\nfor _ in range(3): input(); print(time.time() - time.monotonic(), flush=True)"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        env={**os.environ, **build_clock_settings(file)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen = []
    for seconds in (0, -600, 0):
        shift_clock(file, seconds)
        process.stdin.write(b"\n")
        seen.append(float(await asyncio.wait_for(process.stdout.readline(), START_SECONDS)))
    await process.wait()
    assert [round(each - seen[0], -1) for each in seen] == [0, -600, 0]


def test_spans_are_found_again_in_the_file(tmp_path: Path) -> None:
    name = {"key": "service.name", "value": {"stringValue": "caravan-orders"}}
    with keep_spans(tmp_path / "spans") as url:
        for number in (1, 2):
            span = {"traceId": "1" * 32, "spanId": str(number) * 16, "name": "process", "kind": 5}
            span |= {"startTimeUnixNano": f"{number}000000000"}
            resource = {"resource": {"attributes": [name]}, "scopeSpans": [{"spans": [span]}]}
            content = orjson.dumps({"resourceSpans": [resource]})
            httpx2.post(f"{url}/v1/traces", content=content).raise_for_status()
    nodes = read_spans(tmp_path / "spans").by_id.values()
    assert {(node.service, node.started_at) for node in nodes} == {("orders", 1.0), ("orders", 2.0)}


@pytest.mark.parametrize(
    ("followed", "orphans", "violations"), [(2000, 0, 0), (1998, 0, 0), (1997, 0, 1), (2000, 1, 1)]
)
def test_traces_may_have_gaps_in_one_order_of_a_thousand(followed: int, orphans: int, violations: int) -> None:
    assert len(Traces(2000, followed, 2100, 9999, orphans).find_violations()) == violations


@pytest.mark.slow
async def test_a_proof_that_was_stopped_goes_on_and_finds_nothing(tmp_path: Path) -> None:
    first = Proof(3, 60, LAPTOP, tmp_path)
    running = asyncio.create_task(first.run())

    async def has_struck() -> bool:
        return len(first.struck) >= 2 or running.done()

    await wait_until(has_struck, seconds=200)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    second = Proof(3, 60, LAPTOP, tmp_path)
    assert [each.fault for each in second.struck] == second.plan[: len(second.struck)]
    assert len(second.struck) >= 2
    await second.run()
    assert len(second.struck) == len(second.plan)
    assert second.violations == []
    assert "0 violations" in build_report(second)


@pytest.mark.slow
async def test_a_proof_on_kafka_and_rabbitmq_finds_nothing(tmp_path: Path) -> None:
    try:
        require_brokers()
    except Unavailable as reason:
        pytest.skip(f"no brokers to strike: {reason}")
    kinds = ("kill kafka", "kill rabbitmq", "queue full", "reordered deliveries", "poison", "rebalance")
    proof = Proof(3, 60, BROKERS, tmp_path, kinds)
    await proof.run()
    assert proof.list_unseen() == []
    assert proof.violations == []
