"""A whole installation for a test: embedded PostgreSQL, servers and workers as real processes.

Whatever is started here is ended here, by its id, also when the test fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from support.invariants import check_history, check_invariants
from support.processes import until
from tasker_core.db import embedded
from tasker_core.db.connect import Database
from tasker_core.engine.create import NewTask, create_tasks
from tasker_core.engine.register import TemplateShelf
from tasker_core.errors import DuplicateTask, TaskerError

FILES = Path(__file__).parent.parent / "flows" / "plant"
LEASE_SECONDS = 1
TASKER_CTL = Path(sys.executable).parent / "tasker-ctl"

_TABLES = """
create schema plant;
create table plant.runs (
    run bigint generated always as identity primary key,
    task_uuid uuid not null, step text not null, attempt int not null, pid int not null,
    began_at timestamptz not null default clock_timestamp(), ended_at timestamptz
);
create table plant.effects (
    task_uuid uuid, step text, amount int not null, primary key (task_uuid, step)
);
create table plant.told (
    place bigint generated always as identity primary key,
    event_id uuid not null, task_uuid uuid not null, name text not null
);
create table plant.visits (
    task_uuid uuid, row_no int, visits int not null default 1, primary key (task_uuid, row_no)
);
create table plant.accounts (account int primary key, cents int not null);
create table plant.entries (task_uuid uuid, step text, account int, cents int);
"""

# Each entry is a sentence of the bookkeepers and a query for what contradicts it.
_BOOKS = {
    "the accounts add up to nothing": """
        select sum(cents) from plant.accounts having sum(cents) <> 0""",
    "an account holds what its entries say": """
        select account, cents from plant.accounts
        except select account, sum(cents) from (
            select account, cents from plant.entries
            union all select account, 0 from plant.accounts
        ) as one group by account""",
    "each step of a transfer is booked once": """
        select task_uuid, step, count(*) from plant.entries group by 1, 2
        having count(*) <> case step when 'charge_fee' then 2 else 1 end""",
    "every step of a transfer is booked": """
        select step.task_uuid, step.name from tasker.steps as step
        join tasker.tasks as task using (task_uuid)
        join tasker.templates as made on made.template_uuid = task.template_uuid
        where made.name = 'transfer' and not exists (
            select from plant.entries as one
            where one.task_uuid = step.task_uuid and one.step = step.name)""",
}


class Process:
    """A `tasker-ctl` process; what it says goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], plant: Plant) -> None:
        self.log = plant.directory / f"{name}.log"
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [str(TASKER_CTL), "--json", *arguments],
                cwd=plant.directory,
                env=plant.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._popen.pid

    def ready(self) -> dict[str, Any]:
        """Wait for the line that says it runs; give what it says."""

        def look() -> bool:
            assert self.is_ready() or self.is_alive, f"it ended:\n{self.tail()}"
            return self.is_ready()

        until(look, seconds=30)
        return json.loads(self._ready_line() or "")

    def is_ready(self) -> bool:
        """Whether it has said that it runs."""
        return self._ready_line() is not None

    def _ready_line(self) -> str | None:
        lines = self.log.read_text(errors="replace").splitlines(keepends=True)
        return next((line for line in lines if '"ready"' in line and line.endswith("\n")), None)

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or is stopped in the middle."""
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait()

    def wait(self, seconds: float = 20) -> int:
        """Wait for its own end; give its exit status."""
        return self._popen.wait(seconds)

    def tail(self) -> str:
        """Give the end of what it said."""
        return self.log.read_text(errors="replace")[-4000:]


class Plant:
    """One directory with a database, and the processes on it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tasker-plant-"))
        self.home = self.directory / ".tasker"
        self.gates = self.directory / "gates"
        self.gates.mkdir()
        self._lease = embedded.acquire(self.home)
        self.database = Database(self._lease.url, self._lease)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TASKER_", "DATABASE_"))},
            "TASKER_LEASE_SECONDS": str(LEASE_SECONDS),
            "TASKER_SWEEP_SECONDS": "0.3",
            "PYTHONPATH": str(FILES),
            "PLANT_DATABASE_URL": self._lease.url,
            "PLANT_GATES": str(self.gates),
        }
        self._processes: list[Process] = []
        self._count = 0

    # --- processes ----------------------------------------------------------------------

    def worker(self, *arguments: str) -> Process:
        """Start a worker; it is working once `ready()` returns."""
        return self._start("worker", ["worker", "run", "--handlers", "ledger_handlers", *arguments])

    def bank_worker(self) -> Process:
        """Start a worker that can do transfers, too."""
        return self.worker("--handlers", "transfer_handlers")

    def server(self) -> Process:
        """Start a server on a free port; `ready()` tells its address."""
        templates = ["--templates", str(FILES / "templates")]
        return self._start("server", ["server", "run", "--port", "0", *templates])

    def kill_postgres(self) -> None:
        """Kill the postmaster, if it is there at the moment."""
        pid = embedded.postmaster.living_pid(self.home)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def hold(self, step: str, attempt: int = 1) -> Callable[[], None]:
        """Make an attempt of a step wait; call what is given to let it go."""
        gate = self.gates / f"hold-{step}-{attempt}"
        gate.touch()
        return lambda: gate.unlink(missing_ok=True)

    def _start(self, kind: str, arguments: list[str]) -> Process:
        self._count += 1
        process = Process(f"{kind}-{self._count}", arguments, self)
        self._processes.append(process)
        return process

    def end_processes(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.is_alive:
                process.kill()
        self._processes.clear()
        for gate in self.gates.iterdir():
            gate.unlink()

    # --- the database -------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make the schema, the ledger and the templates, once."""
        from tasker_core.settings import Settings
        from tasker_core.worker.worker import prepare_database

        await prepare_database(self.database, Settings(), [FILES / "templates"], strict=True)
        await self.ask(lambda conn: conn.execute(_TABLES))

    async def ask(self, question: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
        """Ask on a new connection, and again while the database is away."""
        deadline = time.monotonic() + 60
        while True:
            try:
                conn = await self.database.connect("plant")
                try:
                    return await question(conn)
                finally:
                    conn.terminate()
            except (
                OSError, TaskerError, asyncpg.PostgresError, asyncpg.InterfaceError,
                asyncpg.InternalClientError,
            ) as error:  # fmt: skip
                if isinstance(error, DuplicateTask) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def value(self, sql: str, *arguments: Any) -> Any:
        """Ask for one value."""
        return await self.ask(lambda conn: conn.fetchval(sql, *arguments))

    async def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Ask for rows."""
        return [tuple(row) for row in await self.ask(lambda conn: conn.fetch(sql, *arguments))]

    async def until(self, sql: str, *arguments: Any, seconds: float = 30) -> None:
        """Wait until a query gives true."""
        deadline = time.monotonic() + seconds
        while not await self.value(sql, *arguments):
            assert time.monotonic() < deadline, f"not within {seconds} s: {sql}\n{self.said()}"
            await asyncio.sleep(0.03)

    async def order(
        self, count: int = 1, *, name: str = "order", amount: int = 7, seconds: float = 0
    ) -> list[UUID]:
        """Create tasks, each exactly once, whatever happens to the database meanwhile.

        Args:
            seconds: How long each step takes.
        """
        context = {"amount": amount, "seconds": seconds}
        keys = [f"plant-{uuid4()}" for _ in range(count)]
        new = [
            NewTask(name=name, namespace="shop", context=context, idempotency_key=key)
            for key in keys
        ]
        shelf = TemplateShelf()
        try:
            created = await self.ask(lambda conn: create_tasks(conn, shelf, new))
        except DuplicateTask:  # the commit of a call whose answer was lost
            sql = "select task_uuid from tasker.tasks order by task_uuid desc limit $1"
            return [row[0] for row in await self.rows(sql, count)]
        return [one.task_uuid for one in created]

    async def all_complete(self, *, seconds: float = 60) -> None:
        """Wait until every task is complete."""
        await self.until(
            "select not exists (select from tasker.tasks where state <> 'complete')",
            seconds=seconds,
        )

    async def check(self) -> None:
        """Fail unless everything is done, once, and the books agree."""
        await self.ask(check_invariants)
        await self.ask(check_history)
        for table in ("ready", "delayed", "leases"):
            assert await self.rows(f"select * from tasker.{table}") == []
        assert (
            await self.rows(
                "select step.task_uuid, step.name, count(past.attempt) from tasker.steps as step "
                "left join tasker.attempts as past on past.task_uuid = step.task_uuid "
                "and past.step_no = step.step_no and past.outcome = 'complete' "
                "group by 1, 2 having count(past.attempt) <> 1"
            )
            == []
        )
        missing = await self.rows(
            "select task_uuid, step.name from tasker.steps as step "
            "left join plant.effects as effect using (task_uuid) "
            "group by 1, 2 having bool_or(effect.step = step.name) is not true"
        )
        assert missing == []
        steps, effects = await self.rows(
            "select count(*) from tasker.steps union all select count(*) from plant.effects"
        )
        assert steps == effects
        for sentence, query in _BOOKS.items():
            assert await self.rows(query) == [], sentence

    async def check_events(self) -> None:
        """Fail unless every attempt's events were told, under one id each, a task's in order."""
        await self.until("select not exists (select from tasker.outbox)", seconds=30)
        assert await self.rows("select * from tasker.failed_events") == []
        told = "(select distinct on (event_id) * from plant.told order by event_id, place) as told"
        for name, ends in {
            "order.process_payment": "outcome = 'complete' and step.name = 'process_payment'",
            "order.create_order": "outcome = 'complete' and step.name = 'create_order'",
            "order.send_mail": "outcome = 'complete' and step.name = 'send_mail'",
            "payment.attempted": "step.name = 'process_payment'",
        }.items():
            published = await self.rows(
                "select tasker.event_uuid(tasker.step_uuid(task_uuid, step_no), past.attempt, $1) "
                "from tasker.attempts as past join tasker.steps as step using (task_uuid, step_no) "
                f"where {ends} order by 1",
                name,
            )
            heard = await self.rows(f"select event_id from {told} where name = $1 order by 1", name)
            assert heard == published, name
        orders = await self.rows(
            f"select string_agg(name, ' ' order by place) from {told} "
            "where name like 'order.%' group by task_uuid"
        )
        assert set(orders) == {("order.process_payment order.create_order order.send_mail",)}

    async def clear(self) -> None:
        """Forget tasks and books; the templates stay."""
        tables = ("tasks", "steps", "ready", "delayed", "leases", "attempts", "changes", "workers")
        tables += ("outbox", "failed_events")
        sql = ";".join(f"delete from tasker.{table}" for table in tables)
        names = ("runs", "effects", "visits", "accounts", "entries", "told")
        books = ";".join(f"delete from plant.{book}" for book in names)
        accounts = "insert into plant.accounts select no, 0 from generate_series(0, 9) as no"
        await self.ask(lambda conn: conn.execute(f"{sql};{books};{accounts}"))

    def said(self) -> str:
        """Give the end of what every process said."""
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in logs)

    def close(self) -> None:
        """End everything, and leave nothing behind."""
        self.end_processes()
        self._lease.release()
        embedded.stop(self.home)
        shutil.rmtree(self.directory)
