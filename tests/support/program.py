"""Starts Caravan as a program (`caravan up`, `caravan run ...`) on a free port and a data folder, and talks to it over
HTTP.
"""

import asyncio
import email
import email.policy
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from caravan.clock import new_id
from caravan.derivation import derive_secret
from services.registry import SERVICES
from tests.support.forks import FORKS, Process
from tests.support.new_cluster import place_cluster
from tests.support.shop import wait_until

ROOT = Path(__file__).parents[2]
ADMIN = ("admin@caravan.local", "an admin of the tests")
ADDRESS = {
    "name": "Ada Lovelace",
    "street": "12 St James's Square",
    "city": "London",
    "postcode": "SW1Y 4JH",
    "country": "GB",
}
TERMINAL = {"delivered", "rejected", "payment_failed", "cancelled", "refunded"}
START_SECONDS = 120
# The tests' own pace: one person's limits are not what they test, and a parcel needn't take seconds.
PACE = {
    "GATEWAY_AUTH_PER_MINUTE": "100000",
    "GATEWAY_REGISTRATION_PER_MINUTE": "100000",
    "GATEWAY_ORDERS_PER_MINUTE": "1000000",
    "GATEWAY_WRITES_PER_MINUTE": "1000000",
    "GATEWAY_READS_PER_MINUTE": "1000000",
    "SHIPPING_PICKUP_SECONDS": "0.3",
    "SHIPPING_DELIVERY_SECONDS": "0.3",
}


@dataclass
class Program:
    """A running shop and a client of it."""

    url: str
    data: Path
    processes: list[Process]
    host: str = ""
    """The name that the ingress knows it by, where `url` has another; then it is reached through one."""
    secret: str = ""
    """Its master secret; by default the one in `data`."""
    read_mails: Callable[[], Awaitable[list[str]]] | None = None
    """Reads all mails, as text; by default they are files in `data`."""
    client: httpx2.AsyncClient = field(init=False)
    _tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        headers = {"host": self.host} if self.host else {}
        self.client = httpx2.AsyncClient(
            base_url=self.url, timeout=30, limits=httpx2.Limits(max_connections=250), headers=headers
        )

    async def register_customer(self) -> dict[str, str]:
        """A new customer's Authorization header."""
        email, password = f"{new_id()}@example.com", "a long enough password"
        response = await self.client.post(
            "/v1/users", json={"email": email, "password": password, "name": "Ada Lovelace"}
        )
        assert response.status_code == 201, response.text
        return {"authorization": f"Bearer {await self.fetch_token(username=email, password=password)}"}

    async def fetch_token(self, **form: str) -> str:
        response = await self.client.post("/v1/auth/token", data={"grant_type": "password", **form})
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    async def authorize_operator(self) -> dict[str, str]:
        """The Authorization header of this machine's operator, who may do what an admin may."""
        if "operator" not in self._tokens:
            secret = derive_secret(self.secret or (self.data / "secret").read_text().strip(), "client:cli")
            self._tokens["operator"] = await self.fetch_token(
                grant_type="client_credentials", client_id="cli", client_secret=secret
            )
        return {"authorization": f"Bearer {self._tokens['operator']}"}

    async def create_product(self, stock: int, price: int = 1250) -> str:
        """A new product with stock; its sku."""
        sku = f"SKU-{str(new_id())[-12:]}"
        admin = await self.authorize_operator()
        created = await self.client.post(
            "/v1/products",
            json={
                "sku": sku,
                "name": f"Thing {sku}",
                "description": "",
                "category": "things",
                "price": {"amount": price, "currency": "GBP"},
                "attributes": {},
            },
            headers=admin,
        )
        assert created.status_code == 201, created.text
        if stock:
            received = await self.client.post(
                f"/v1/stock/{sku}/movements",
                json={"kind": "receive", "quantity": stock, "reason": "test"},
                headers=admin,
            )
            assert received.status_code in (200, 201), received.text
        return sku

    async def place_order(
        self, headers: dict[str, str], sku: str, quantity: int = 1, token: str = "tok_ok", key: str | None = None
    ) -> httpx2.Response:
        body = {
            "lines": [{"sku": sku, "quantity": quantity}],
            "shipping_address": ADDRESS,
            "payment": {"method": "card", "token": token},
        }
        return await self.client.post(
            "/v1/orders", json=body, headers={**headers, "Idempotency-Key": key or str(new_id())}
        )

    async def get_order(self, headers: dict[str, str], order_id: str) -> dict[str, Any]:
        response = await self.client.get(f"/v1/orders/{order_id}", headers=headers)
        assert response.status_code == 200, response.text
        order: dict[str, Any] = response.json()
        return order

    async def wait_for_status(
        self, headers: dict[str, str], order_id: str, status: str, *, seconds: float = 20
    ) -> dict[str, Any]:
        async def check_status() -> dict[str, Any] | None:
            order = await self.get_order(headers, order_id)
            assert order["status"] == status or order["status"] not in TERMINAL - {status}, (
                f"ended as {order['status']}: {order['reason']}"
            )
            return order if order["status"] == status else None

        order = await wait_until(check_status, seconds=seconds, every=0.05)
        assert order is not None
        return order

    async def get_stock(self, sku: str) -> dict[str, int]:
        response = await self.client.get(f"/v1/stock/{sku}")
        assert response.status_code == 200, response.text
        level: dict[str, int] = response.json()
        return level

    async def list_mails(self, order_id: str) -> list[str]:
        """The mails that speak of an order, as text."""
        texts = (
            await self.read_mails()
            if self.read_mails
            else [decode_mail(path.read_bytes()) for path in (self.data / "mail").glob("*.eml")]
        )
        return [text for text in texts if order_id in text]

    def kill(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()

    async def stop(self) -> None:
        await self.client.aclose()
        for process in reversed(self.processes):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()


def decode_mail(mail: bytes) -> str:
    return email.message_from_bytes(mail, policy=email.policy.default).as_string()


def build_environment(data: Path, **settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CARAVAN_")}
    defaults = {
        **PACE,
        "CARAVAN_DATA": str(data),
        "CARAVAN_PORT": "0",
        "CARAVAN_SEED": "none",
        "CARAVAN_ADMIN_EMAIL": ADMIN[0],
        "CARAVAN_ADMIN_PASSWORD": ADMIN[1],
        "CARAVAN_LOG_LEVEL": "warning",
    }
    return {**inherited, **defaults, **settings}


async def launch_caravan(
    arguments: Sequence[str],
    settings: dict[str, str],
    data: Path,
    name: str,
    *,
    seconds: float = START_SECONDS,
    forked: bool = False,
) -> tuple[Process, str]:
    """Start `caravan ...`; the process and the URL that it says it listens on. `forked`: without importing libraries
    anew.
    """
    log = data / f"{name}.log"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as out:
        offset, environment = out.tell(), build_environment(data, **settings)
        process: Process
        if forked:
            process = await asyncio.to_thread(FORKS.fork, arguments, environment, out)
        else:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli", *arguments),
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                stdin=asyncio.subprocess.DEVNULL,
            )

    async def find_url() -> str | None:
        text = log.read_bytes()[offset:].decode(errors="replace")
        match = re.search(r"(?:listening on|Caravan is up.*?:) (http://[\d.]+:\d+)", text)
        if match:
            return match[1]
        if process.returncode is not None:
            raise RuntimeError(f"caravan {' '.join(arguments)} ended with {process.returncode}:\n{text[-3000:]}")
        return None

    try:
        url = await wait_until(find_url, seconds=seconds, every=0.05)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    assert url is not None
    return process, url


async def _prepare_data(data: Path, settings: dict[str, str]) -> None:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if "CARAVAN_DATABASE_URL" not in settings and not any(data.iterdir()):
        await place_cluster(data)


@asynccontextmanager
async def run_one_process(data: Path, **settings: str) -> AsyncIterator[Program]:
    await _prepare_data(data, settings)
    process, url = await launch_caravan(["up"], settings, data, "up")
    program = Program(url, data, [process])
    try:
        yield program
    finally:
        await program.stop()


def _end_left(process: Process) -> None:
    """What began before another one failed to; with SIGTERM, so that the backends that it holds end with it."""
    if process.returncode is None:
        process.terminate()


@asynccontextmanager
async def run_process_per_service(data: Path, forked: bool = False, /, **settings: str) -> AsyncIterator[Program]:
    """Every service in a process of its own, on its own port; the first one holds the embedded backends."""
    async with AsyncExitStack() as stack:
        processes: list[Process] = []
        url = ""
        await _prepare_data(data, settings)
        for name in SERVICES:
            process, url = await launch_caravan(["run", name], settings, data, name, forked=forked)
            processes.append(process)
            stack.callback(_end_left, process)
        program = Program(url, data, processes)
        stack.push_async_callback(program.stop)

        async def is_everything_routed() -> bool:
            paths = (await program.client.get("/openapi.json")).json().get("paths", {})
            expected = "/v1/users", "/v1/products", "/v1/orders", "/v1/stock/{sku}", "/v1/payments/{order_id}"
            return all(path in paths for path in (*expected, "/v1/notifications"))

        await wait_until(is_everything_routed, seconds=START_SECONDS, every=0.2)
        yield program
