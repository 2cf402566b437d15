"""What a call reads grows with the steps of its task, whatever the tables held before.

The planner judges by statistics, which may be of another time: of tables that were empty, or
of tasks of one step. A plan that is good for those must not read all steps of a large task
for each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from math import isqrt
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from support.clock import Clock
from support.flows import NO_REST, Worker, begin, done, step_id, template
from tasker_core.engine import inspect
from tasker_core.engine.claim import list_lanes
from tasker_core.engine.create import NewTask, create_tasks
from tasker_core.engine.dlq import add_entry
from tasker_core.engine.expand import plan_expansion
from tasker_core.engine.operate import (
    cancel_task,
    complete_step,
    reset_step,
    reset_task,
    resolve_step,
)
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.engine.retention import prune_tasks
from tasker_core.engine.sweep import sweep
from tasker_core.engine.why import why
from tasker_core.states import StepState
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

STEPS = 200
MOST_READ = 60  # rows and entries of indexes a step, where all steps for each would be 200

BY = {"actor": "ann", "reason": "I looked"}


def wide(size: int) -> dict[str, list[str]]:
    """One step, many that wait for it, and one that waits for those."""
    leaves = [f"leaf_{n}" for n in range(size)]
    return {"root": [], **{leaf: ["root"] for leaf in leaves}, "join": leaves}


def layers(size: int) -> dict[str, list[str]]:
    """Layers of steps, each of which waits for all of the layer before."""
    side = isqrt(size)
    rows = [[f"step_{row}_{n}" for n in range(side)] for row in range(side)]
    return {name: rows[row - 1] if row else [] for row in range(side) for name in rows[row]}


def flow(name: str, graph: dict[str, list[str]], on_failure: str = "halt") -> TaskTemplate:
    """A third of the steps fails at once, the others when they have failed three times."""
    return template(
        graph,
        name=name,
        callables=dict.fromkeys(graph, "any"),
        retries={step: {"max_attempts": 1} for step in [*graph][::3]},
        retry=NO_REST,
        on_failure=on_failure,
    )


def batch(size: int) -> TaskTemplate:
    """A batch, a quarter of which runs at a time."""
    read = parse_template(f"""
name: batch
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - {{name: analyze, type: batchable, handler: {{callable: any}}}}
  - name: work
    type: batch_worker
    handler: {{callable: any}}
    dependencies: [analyze]
    retry: {{max_attempts: 2, backoff: none}}
    batch_config: {{parallelism: {size // 4}, batch_size: 1}}
  - {{name: total, type: deferred_convergence, handler: {{callable: any}}, dependencies: [work]}}
""")
    assert read.template is not None, read.findings
    return read.template


def cut(size: int) -> dict[str, Any]:
    """What the analyzer of the batch gives."""
    cursors = [{"batch_id": f"{n:03}"} for n in range(size)]
    outcome = {"type": "create_batches", "worker_template_name": "work", "cursor_configs": cursors}
    return {"batch_processing_outcome": outcome}


_READ = """
select sum(pg_stat_get_xact_tuples_returned(oid))::int from pg_class
where relnamespace = 'tasker'::regnamespace and relkind in ('r', 'i')
"""


class Use:
    """Does all that can be done with a task of so many steps, and counts what is read."""

    def __init__(self, conn: asyncpg.Connection, clock: Clock, size: int) -> None:
        self._conn = conn
        self._clock = clock
        self._size = size
        self._shelf = TemplateShelf()
        self._batch = batch(size)
        self.read: Counter[str] = Counter()  # a step, at most

    async def run(self) -> None:
        """Do it."""
        wide_flow, layers_flow = wide(self._size), layers(self._size)
        flows = {
            "wide": flow("wide", wide_flow, "continue"),
            "halting": flow("halting", wide_flow),
            "layers": flow("layers", layers_flow),
            "batch": self._batch,
        }
        for one in flows.values():
            await register_template(self._conn, one)
        lanes = [lane.lane for lane in await list_lanes(self._conn)]
        self._worker = Worker(self._conn, lanes=lanes)
        for name in ("wide", "halting", "layers"):
            task, *_ = [await self._create(name, priority) for priority in (4, 3, 2, 1)]
            if name != "layers":
                (root,) = await self._worker.claim(1)
                await self._count("finish, releases all", self._worker.succeed(root))
            await self._work(task)
            other = await self._create(name, 4)
            await self._worker.succeed(*await self._worker.claim(1))
            await self._worker.claim(self._size // 2)
            await self._count("cancel task", cancel_task(self._conn, other, **BY))
        for expand in (self._finish_analyzer, self._complete_analyzer):
            task = await self._create("batch", 4)
            await expand(task)
            await self._work(task)
        await self._clock.advance(10**6)
        await self._count("prune", prune_tasks(self._conn, older_than=timedelta(days=1)))

    async def _count(self, what: str, call: Awaitable[Any]) -> Any:
        async with self._conn.transaction():
            before = await self._conn.fetchval(_READ)
            result = await call
            read = await self._conn.fetchval(_READ) - before
        self.read[what] = max(self.read[what], read / self._size)
        return result

    async def _create(self, name: str, priority: int) -> UUID:
        new = NewTask(name=name, namespace="shop", version="1.0.0", priority=priority)
        (created,) = await self._count("create", create_tasks(self._conn, self._shelf, [new]))
        return created.task_uuid

    async def _finish_analyzer(self, task: UUID) -> None:
        (claim,) = await self._worker.claim(1)
        result = cut(self._size)
        step = self._batch.step("analyze")
        expansion = await self._count(
            "plan an expansion", plan_expansion(self._conn, self._batch, step, task, result)
        )
        end = replace(done(claim, result), expansion=expansion)
        await self._count("finish, expands", self._worker.finish(end))

    async def _complete_analyzer(self, task: UUID) -> None:
        step = await step_id(self._conn, task, "analyze")
        result = cut(self._size)
        await self._count(
            "complete step",
            complete_step(self._conn, self._shelf, task, step, result=result, **BY),
        )

    async def _work(self, task: UUID) -> None:
        """Let steps succeed and fail, help those that failed, and go on to the end."""
        conn, worker, count = self._conn, self._worker, self._count
        await self._look(task)
        claims = await count("claim", worker.claim(self._size * 2 // 3))
        third = len(claims) // 3
        await self._look(task)
        await count("renew", worker.renew(*claims))
        await count("finish, fails", worker.fail(*claims[:third]))
        await count("give back", worker.give_back(*claims[third : third * 2]))
        await count("finish", worker.succeed(*claims[third * 2 : -2], claim=10))
        await self._look(task)
        await self._clock.advance(100)  # leases end, and rests
        await count("sweep", sweep(conn))
        claims = await count("claim", worker.claim(self._size))
        await count("finish, fails", worker.fail(*claims))
        await self._look(task)
        failed = [s for s in await inspect.list_steps(conn, task) if s.state is StepState.ERROR]
        await count("reset step", reset_step(conn, task, failed[0].step_uuid, **BY))
        await count("resolve step", resolve_step(conn, task, failed[-1].step_uuid, **BY))
        await count("put aside", add_entry(conn, task, **BY))
        await count("reset task", reset_task(conn, task, **BY))
        while claims := await worker.claim(self._size):
            await count("finish, to the end", worker.succeed(*claims))
        await self._look(task)

    async def _look(self, task: UUID) -> None:
        conn = self._conn
        await self._count("get_task", inspect.get_task(conn, task))
        await self._count("list_steps", inspect.list_steps(conn, task))
        await self._count("list_attempts", inspect.list_attempts(conn, task))
        await self._count("list_transitions", inspect.list_transitions(conn, task))
        await self._count("why", why(conn, self._shelf, task))


async def no_statistics(conn: asyncpg.Connection, clock: Clock) -> None:
    """As in a new database."""


async def of_empty_tables(conn: asyncpg.Connection, clock: Clock) -> None:
    """As somebody left it who looks after a new database at once."""
    await conn.execute("vacuum analyze")


async def of_small_tasks(conn: asyncpg.Connection, clock: Clock) -> None:
    """One id of a task is then expected to be one row."""
    worker = Worker(conn)
    await begin(conn, template(retry=NO_REST), 600)
    await worker.succeed(*await worker.claim(300))
    await worker.fail(*await worker.claim(100))
    await worker.claim(100)
    await conn.execute("analyze")
    await empty(conn)


async def of_earlier_calls(conn: asyncpg.Connection, clock: Clock) -> None:
    """A connection keeps the plans that it made while the tables were small."""
    await conn.execute("vacuum analyze")
    await Use(conn, clock, STEPS // 2).run()
    await empty(conn)


async def empty(conn: asyncpg.Connection) -> None:
    """Delete all tasks."""
    for table in ("tasks", "steps", "ready", "delayed", "leases", "attempts", "changes"):
        await conn.execute(f"delete from tasker.{table}")


@pytest.mark.parametrize(
    "statistics", [no_statistics, of_empty_tables, of_small_tasks, of_earlier_calls]
)
async def test_what_is_read_grows_with_the_steps(
    conn: asyncpg.Connection,
    clock: Clock,
    statistics: Callable[[asyncpg.Connection, Clock], Awaitable[None]],
) -> None:
    """Of every call: the whole of a task is read a few times, not once for each of its steps."""
    await statistics(conn, clock)
    use = Use(conn, clock, STEPS)
    await use.run()
    too_much = {what: round(read) for what, read in use.read.items() if read > MOST_READ}
    assert not too_much
