"""The guides do what they say: decisions, batches, APIs and events in both styles, and
tasks in the transaction of every library.

Each test takes the template and the code from a page as they stand there, and runs
them on a real database with a real worker.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from support.drivers import alchemy_url, configure_django
from support.workers import Bench, eventually, registry
from tasker_core.domain_events import PublisherRegistry, SubscriberRegistry
from tasker_core.engine.register import register_template
from tasker_core.errors import DuplicateTask
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.discovery import handlers_in
from tasker_core.handlers.functional import declared
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.server.app import create_app
from tasker_core.server.run import Server
from tasker_core.settings import Settings
from tasker_core.step_handler.functional import decision_handler, step_handler
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
STYLES = ("class", "function")

_numbers = itertools.count()


class Guide:
    """A page, and what stands on it."""

    def __init__(self, name: str) -> None:
        self.text = (GUIDES / name).read_text(encoding="utf-8")

    def template(self) -> TaskTemplate:
        """Read the page's template."""
        (text,) = re.findall(r"^```yaml\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)
        template = parse_template(text).template
        assert template is not None
        return template

    def code(self, title: str, language: str = "python") -> str:
        """Give the block of code below the heading that has, or is, these words."""
        sections = re.split(r"^## ", self.text, flags=re.MULTILINE)
        heads = {section.partition("\n")[0].lower(): section for section in sections}
        (section,) = (
            [heads[title]] if title in heads else [s for h, s in heads.items() if title in h]
        )
        (code,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        return code


@pytest.fixture(autouse=True)
def own_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page declares is gone after its test."""
    monkeypatch.setattr(declared, "_classes", declared.all())


def module_of(code: str) -> ModuleType:
    """Run a block as a module of its own."""
    module = ModuleType(f"guide_{next(_numbers)}")
    sys.modules[module.__name__] = module
    exec(compile(code, module.__name__, "exec", dont_inherit=True), vars(module))
    return module


def registry_of(module: ModuleType) -> HandlerRegistry:
    """Register what a worker would find in the module."""
    registry = HandlerRegistry()
    for name, handler in handlers_in(module).items():
        registry.register(name, handler)
    return registry


def run_tests_of(guide: Guide, handlers: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the tests that a page shows, on the handlers that it shows; give how many there were."""
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.handlers", module_of(guide.code(handlers)))
    tests = [
        value
        for name, value in vars(module_of(guide.code("test it"))).items()
        if name.startswith("test_")
    ]
    for test in tests:
        test()
    return len(tests)


@pytest.fixture
async def bench(clean_database: str, conn: asyncpg.Connection) -> AsyncIterator[Bench]:
    """Workers of this process, stopped at the end."""
    made = Bench(clean_database, conn)
    try:
        yield made
    finally:
        await made.close()


async def steps_of(conn: asyncpg.Connection, task_uuid: UUID) -> list[str]:
    rows = await conn.fetch(
        "select name from tasker.steps where task_uuid = $1 order by step_no", task_uuid
    )
    return [row["name"] for row in rows]


# --- route-a-decision.md ------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
async def test_a_refund_is_routed_as_the_table_says(bench, style):
    """Every row of the table: the steps of the task, and what the convergence sees."""
    guide = Guide("route-a-decision.md")
    await bench.worker(registry_of(module_of(guide.code(style))))
    rows = re.findall(r"^\| ([\d ]+) \| ([a-z_, ]+) \| (.+) \|$", guide.text, re.MULTILINE)
    assert len(rows) == 4

    for amount, names, seen in rows:
        cents = int(amount.replace(" ", ""))
        state, task = await bench.run(guide.template(), context={"amount_cents": cents})

        assert state == "complete"
        assert sorted(await steps_of(bench.conn, task)) == sorted(names.split(", "))
        paid = await bench.result(task, "pay_back")
        if cents == 0:
            assert (paid, seen) == (None, "it does not exist")
            continue
        assert paid == {"approved_by": json.loads(seen.strip("`"))}
        told = await bench.result(task, "tell_customer")
        assert told == {"was_large": cents >= 10_000}


def test_the_test_of_the_decision_passes(monkeypatch):
    """What the page shows as a test, is one."""
    assert run_tests_of(Guide("route-a-decision.md"), "classes", monkeypatch) == 1


# --- expand.md ----------------------------------------------------------------------------


async def test_a_convergence_waits_for_the_inner_decision(bench):
    """The template of the page: the quick branch is long done when the inner decision adds one."""
    page = (GUIDES.parent / "concepts" / "expand.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    template = parse_template(text).template
    assert template is not None
    quick_done = asyncio.Event()

    @decision_handler("outer")
    def outer(context):
        return ["quick", "inner"]

    @step_handler("quick")
    async def quick(context):
        quick_done.set()

    @decision_handler("inner")
    async def inner(context):
        await quick_done.wait()
        await asyncio.sleep(0.05)
        return ["thorough"]

    handlers = registry({"check": _seen, "thorough": _seen, "meet": _seen})
    for handler in (outer, quick, inner):
        handlers.register(handler.handler_class.handler_name, handler)
    await bench.worker(handlers)

    state, task = await bench.run(template)

    assert state == "complete"
    assert set((await bench.result(task, "meet"))["seen"]) >= {"quick", "inner", "thorough"}


def _seen(context: StepContext) -> dict[str, Any]:
    return {"seen": list(context.dependency_results)}


# --- process-a-batch.md -------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("lines", "workers"), [(250, 3), (0, 0)])
async def test_a_file_is_read_in_batches(bench, tmp_path, style, lines, workers):
    """Three workers that yield, or a placeholder; the sum is that of the file."""
    guide = Guide("process-a-batch.md")
    prices = tmp_path / "prices.txt"
    prices.write_text("".join(f"{cents}\n" for cents in range(lines)))
    await bench.worker(registry_of(module_of(guide.code(style))))

    state, task = await bench.run(guide.template(), context={"file": str(prices)})

    assert state == "complete"
    total = await bench.result(task, "add_up")
    assert (total["cents"], total["worker_count"]) == (sum(range(lines)), workers)
    names = [f"read_lines_{number:03}" for number in range(1, workers + 1)] or ["read_lines_000"]
    assert sorted(await steps_of(bench.conn, task)) == ["add_up", "count_lines", *names]
    assert await bench.outcomes(task) == ["complete"] * (2 + len(names))


# --- call-an-http-api.md ------------------------------------------------------------------


class Bank(BaseHTTPRequestHandler):
    """Busy at the first call of each key, and then done; closed accounts are refused."""

    keys: set[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        if body["account"] == "closed":
            self.answer(422, {"detail": "the account is closed"})
        elif key not in self.keys:
            self.keys.add(key)
            self.answer(503, {}, {"Retry-After": "0"})
        else:
            self.answer(201, {"id": "T-1"})

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        lines = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**lines, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def bank() -> Iterator[str]:
    """The address of a bank."""
    handler = type("Bank", (Bank,), {"keys": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("style", STYLES)
async def test_a_bank_is_called(bench, bank, style):
    """A busy bank is asked again, with the same key; a refusal is final."""
    guide = Guide("call-an-http-api.md")
    code = guide.code(style).replace("https://bank.example.com/v1", bank)
    await bench.worker(registry_of(module_of(code)))

    state, task = await bench.run(guide.template(), context={"account": "open"})
    assert state == "complete"
    assert await bench.result(task, "pay_back") == {"transfer": "T-1"}
    assert await bench.outcomes(task) == ["waiting_for_retry", "complete"]

    state, task = await bench.run(guide.template(), context={"account": "closed"})
    assert state == "blocked_by_failures"
    (attempt,) = await bench.attempts(task)
    assert attempt["error"]["message"] == "HTTP 422: the account is closed"
    assert attempt["error"]["error_type"] == "unprocessable_entity"
    assert attempt["metadata"]["custom"]["status_code"] == 422


def test_the_tests_of_the_api_pass(monkeypatch):
    """What the page shows as tests, are some."""
    assert run_tests_of(Guide("call-an-http-api.md"), "class", monkeypatch) == 3


def test_the_table_of_statuses_is_that_of_the_code():
    """Each status of the page has the type and the flag that `api_failure` gives it."""
    from tasker_core.handlers.api.status import classify_status

    told: dict[int, tuple[str, bool]] = {}
    others = {"other 4xx": 418, "other 5xx": 599, "anything else": 302}
    pattern = r"^\| (\d{3}[\d, ]*|other .xx|anything else) \| (`.*?) \| (yes|no) \|$"
    for statuses, types, again in re.findall(
        pattern, Guide("call-an-http-api.md").text, re.MULTILINE
    ):
        numbers = [others[statuses]] if statuses in others else map(int, statuses.split(", "))
        numbers, names = list(numbers), re.findall(r"`(\w+)`", types)
        names = names * len(numbers) if len(names) == 1 else names
        told.update({n: (t, again == "yes") for n, t in zip(numbers, names, strict=True)})

    assert len(told) == 20
    for status, (error_type, retryable) in told.items():
        found = classify_status(status)
        assert (found.error_type, found.retryable) == (error_type, retryable), status


# --- publish-events.md --------------------------------------------------------------------


@pytest.fixture
def events() -> Iterator[ModuleType]:
    """The page's publisher and subscriber, registered."""
    PublisherRegistry.reset()
    SubscriberRegistry.reset()
    yield module_of(Guide("publish-events.md").code("publishers"))
    PublisherRegistry.reset()
    SubscriberRegistry.reset()


@pytest.mark.parametrize("style", STYLES)
async def test_payments_are_counted(bench, events, style):
    """The publisher makes the payload of a success; a failure has its own event."""
    guide = Guide("publish-events.md")
    await bench.worker(registry_of(module_of(guide.code(f"as a {style}"))))

    await bench.run(guide.template(), context={"card": "good"})
    await bench.run(guide.template(), context={"card": "blocked"})

    counted = await eventually(lambda: events.COUNTED if len(events.COUNTED) == 2 else None)
    assert counted == [("payment.charged", {"amount_cents": 1250}), ("payment.refused", {})]


# --- create-a-task-in-your-transaction.md ---------------------------------------------------


@pytest.fixture
async def shop(conn: asyncpg.Connection) -> AsyncIterator[Guide]:
    """The page, its template, and the tables that it writes to."""
    guide = Guide("create-a-task-in-your-transaction.md")
    await register_template(conn, guide.template())
    for table in ("orders", "clicks"):
        await conn.execute(f"create table public.{table} (number text primary key)")
    yield guide
    await conn.execute("drop table public.orders, public.clicks; drop role if exists web")


async def with_asyncpg(place_order: Any, url: str) -> UUID:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        return await place_order(pool, "A-1")


async def with_psycopg(place_order: Any, url: str) -> UUID:
    with psycopg.connect(url) as conn:
        return place_order(conn, "A-1")


async def with_async_psycopg(place_order: Any, url: str) -> UUID:
    async with await psycopg.AsyncConnection.connect(url) as conn:
        return await place_order(conn, "A-1")


async def with_engine(place_order: Any, url: str) -> UUID:
    engine = sqlalchemy.create_engine(alchemy_url(url, "psycopg"))
    try:
        return place_order(engine, "A-1")
    finally:
        engine.dispose()


async def with_async_engine(place_order: Any, url: str) -> UUID:
    engine = create_async_engine(alchemy_url(url, "asyncpg"))
    try:
        return await place_order(engine, "A-1")
    finally:
        await engine.dispose()


async def with_django(place_order: Any, url: str) -> UUID:
    def place() -> UUID:
        from django.db import connections

        try:
            return place_order("A-1")
        finally:
            connections.close_all()

    return await asyncio.to_thread(place)


@pytest.mark.parametrize(
    ("title", "place"),
    [
        ("asyncpg", with_asyncpg),
        ("psycopg", with_psycopg),
        ("psycopg with await", with_async_psycopg),
        ("sqlalchemy connection", with_engine),
        ("sqlalchemy session", with_engine),
        ("sqlalchemy with await: connection", with_async_engine),
        ("sqlalchemy with await: session", with_async_engine),
        ("django", with_django),
    ],
)
async def test_an_order_and_its_task_are_one_commit(
    clean_database, conn, shop, monkeypatch, title, place
):
    """Both are there; and when the task exists already, neither is written again."""
    if title == "django":
        configure_django(clean_database)
        monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
        monkeypatch.setitem(sys.modules, "shop.models", django_models())
    place_order = module_of(shop.code(title)).place_order

    made = await place(place_order, clean_database)

    assert await conn.fetchval("select number from public.orders") == "A-1"
    assert await conn.fetchval("select task_uuid from tasker.tasks") == made
    await conn.execute("delete from public.orders")
    with pytest.raises(DuplicateTask):
        await place(place_order, clean_database)
    assert await conn.fetchval("select count(*) from public.orders") == 0


@functools.cache
def django_models() -> ModuleType:
    """The application's models, as `shop/models.py` would have them."""
    from django.db import models

    class Order(models.Model):
        number = models.TextField(primary_key=True)

        class Meta:
            app_label = "shop"
            db_table = "orders"

    module = ModuleType("shop.models")
    module.Order = Order  # type: ignore[attr-defined]
    return module


async def test_a_trigger_ships_orders_with_the_privileges_of_the_page(clean_database, conn, shop):
    """A role that has no others writes an order, and its task is the one that Python knows."""
    await conn.execute(shop.code("without python", "sql"))
    await conn.execute("create role web; grant insert on public.orders to web")
    await conn.execute(shop.code("privileges", "sql"))
    ship_again = module_of(shop.code("exists already")).ship_again
    ship_all = module_of(shop.code("many at once")).ship_all
    try:
        await conn.execute("set role web; insert into public.orders values ('A-1'); reset role")

        with psycopg.connect(clean_database) as other:
            other.execute("grant insert on public.clicks to web; set role web")
            assert [ship_again(other, number) for number in ("A-1", "A-2")] == [False, True]
            assert ship_all(other, ["A-3", "A-4"]) == 2
        assert await conn.fetchval("select count(*) from public.clicks") == 2
        assert await conn.fetchval("select count(*) from tasker.tasks") == 4
    finally:
        await conn.execute("drop trigger begin_shipping on public.orders")
        await conn.execute("drop function begin_shipping; drop owned by web")


# --- write-with-the-step.md -----------------------------------------------------------------


@pytest.fixture
async def accounts(clean_database: str) -> AsyncIterator[asyncpg.Connection]:
    """The page's table, with money in it."""
    (create,) = re.findall(r"^```sql\n(.*?)^```", Guide("write-with-the-step.md").text, re.S | re.M)
    conn = await asyncpg.connect(clean_database)
    await conn.execute(f"{create}; insert into accounts values ('ada', 100), ('bob', 0)")
    yield conn
    await conn.execute("drop table accounts")
    await conn.close()


@pytest.mark.parametrize("title", ["with asyncpg", "with psycopg", "async, with sqlalchemy", "orm"])
async def test_money_is_moved_with_the_step(accounts, bench, clean_database, title):
    """Once for each task; a transfer that the table refuses moves nothing."""
    code = Guide("write-with-the-step.md").code(title)
    for driver in ("asyncpg", "psycopg"):
        address = clean_database.replace("postgresql:", f"postgresql+{driver}:", 1)
        code = code.replace(f"postgresql+{driver}://shop@db/shop", address)
    module = module_of(code)
    await bench.worker(registry_of(module))
    pay = Guide("write-with-the-step.md").template()
    read = "select cents from accounts order by name"

    state, task = await bench.run(pay, context={"cents": 30})
    assert (state, await bench.result(task, "move_money")) == ("complete", {"moved": 30})
    assert [row["cents"] for row in await accounts.fetch(read)] == [70, 30]

    state, task = await bench.run(pay, context={"cents": 71})
    assert state == "blocked_by_failures"
    assert await bench.outcomes(task) == ["waiting_for_retry", "error"]
    assert [row["cents"] for row in await accounts.fetch(read)] == [70, 30]
    if title == "orm":
        module.ENGINE.dispose()


# --- call-from-fastapi.md -------------------------------------------------------------------


async def test_a_durable_application(clean_database, conn, monkeypatch, tmp_path):
    """The page's application places an order, waits for it, shows it, and lets nobody else in."""
    guide = Guide("call-from-fastapi.md")
    (tmp_path / "templates").mkdir()
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```", guide.text, re.DOTALL | re.MULTILINE)
    (tmp_path / "templates" / "ship_order.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", alchemy_url(clean_database, "asyncpg"))
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    handlers = module_of(guide.code("the handlers"))
    monkeypatch.setitem(sys.modules, "shop.handlers", handlers)
    await conn.execute("create table public.orders (number text primary key, cents int)")
    module = module_of(guide.code("the application"))
    transport = httpx.ASGITransport(module.app)
    try:
        async with (
            module.app.router.lifespan_context(module.app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as http,
        ):
            placed = await http.post("/orders", json={"number": "A-1", "cents": 5})
            done = await http.post("/orders/and-wait", json={"number": "A-2", "cents": 5})
            path = f"/tasker/v1/tasks/{placed.json()['task']}"
            stranger = await http.get(path)
            known = await http.get(path, headers={"Authorization": "Bearer let-me-in"})
    finally:
        await module.engine.dispose()
        await conn.execute("drop table public.orders")

    assert (placed.status_code, done.status_code) == (202, 200)
    assert done.json()["results"] == {"ship": {"parcel": "from shelf of A-2"}}
    assert (stranger.status_code, known.status_code) == (401, 200)
    assert known.json()["context"] == {"number": "A-1", "cents": 5}


async def test_an_application_with_a_server_elsewhere(clean_database, conn, monkeypatch):
    """A second click on the page's button is told so, and the first can be followed."""
    guide = Guide("call-from-fastapi.md")
    app = module_of(guide.code("create and follow tasks over http")).app
    document = "name: refund\nnamespace_name: shop\nversion: 1.0.0\nsteps:\n"
    flow = parse_template(document + "  - name: pay\n    handler: {callable: pay}\n").template
    assert flow is not None
    await register_template(conn, flow)
    settings = Settings(database_url=clean_database, sweep_seconds=3600)
    async with Server(create_app(settings), port=0) as server:
        monkeypatch.setenv("TASKER_URL", server.url)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http,
        ):
            refund = {"order_number": "A-1", "account": "1"}
            first = await http.post("/refunds", json=refund)
            second = await http.post("/refunds", json=refund)
            followed = await http.get(f"/refunds/{first.json()['task']}")
            nothing = await http.get(f"/refunds/{uuid4()}")

    assert (first.status_code, second.status_code, nothing.status_code) == (202, 409, 404)
    assert followed.json() == {"status": "steps_in_process", "percent": 0.0}
