"""Every two functions of the engine, the one stopped before any of its statements.

A task has one step in each situation that there is. One call is stopped before it
writes for the n-th time, or when it looks at the clock, which is right after it has
its locks; then another call comes, and runs until it is done or waits for the first.
Then the first goes on. Whatever comes out: nobody waits in a ring, the tables contradict
nothing, and what is left can be driven to its end.

The suite takes some of the meetings; all of them (several thousand, an hour or less):

    TASKER_INTERLEAVINGS=all pytest tests/engine/test_interleavings.py -s

Each is named by a line like `continue: finish_two > cancel @ 5`, which TASKER_INTERLEAVINGS
takes, too.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from support.clock import Clock
from support.flows import Worker, begin_one, done, failed, step_id
from support.invariants import check_history, check_invariants
from tasker_core.db.asking import ask
from tasker_core.engine.claim import Claim, list_lanes
from tasker_core.engine.expand import plan_expansion
from tasker_core.engine.finish import GROWN, Finished
from tasker_core.engine.operate import (
    cancel_task,
    complete_step,
    reset_step,
    reset_task,
    resolve_step,
    resolve_task,
)
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.retention import prune_tasks
from tasker_core.engine.sweep import sweep
from tasker_core.engine.transaction import finish_in_transaction
from tasker_core.errors import TransitionRefused
from tasker_core.payload import encode
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

WANTED = os.environ.get("TASKER_INTERLEAVINGS", "25")
MOST_POINTS = 40
LOCK = 4711
BY = {"actor": "ann", "reason": "-"}
HOUR = timedelta(hours=1)

_PAUSES = """
create function test_clock.point() returns void language plpgsql as $$
declare
    passed int := coalesce(nullif(current_setting('test.passed', true), ''), '0')::int + 1;
begin
    if coalesce(current_setting('test.stop', true), '') = '' then return; end if;
    perform set_config('test.passed', passed::text, false);
    if passed = current_setting('test.stop')::int then
        perform set_config('test.stopped', 'yes', false);
        perform pg_advisory_lock_shared(4711);
        perform pg_advisory_unlock_shared(4711);
    end if;
end;
$$;

create function test_clock.before_statement() returns trigger language plpgsql as $$
begin perform test_clock.point(); return null; end;
$$;

create or replace function tasker.now() returns timestamptz language plpgsql volatile as $$
begin
    perform test_clock.point();
    return (
        select frozen_at + ahead + tick * nextval('test_clock.ticks') from test_clock.hands
    );
end;
$$;
"""
_TABLES = ("tasks", "steps", "ready", "delayed", "leases", "attempts", "changes")


def flow(on_failure: str) -> TaskTemplate:
    """A step for each situation, each with a lane of its own."""
    report = parse_template(f"""
name: {on_failure}
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
on_failure: {on_failure}
steps:
  - {{name: done, handler: {{callable: done}}}}
  - {{name: held_1, handler: {{callable: held_1}}, dependencies: [done]}}
  - {{name: held_2, handler: {{callable: held_2}}, dependencies: [done]}}
  - {{name: join, handler: {{callable: join}}, dependencies: [held_1, held_2]}}
  - {{name: ready, handler: {{callable: ready}}}}
  - {{name: due, handler: {{callable: due}}}}
  - {{name: lost, handler: {{callable: lost}}}}
  - {{name: broken, handler: {{callable: broken}}}}
  - {{name: after, handler: {{callable: after}}, dependencies: [broken]}}
  - {{name: route, type: decision, handler: {{callable: route}}, dependencies: [done]}}
  - {{name: chosen, handler: {{callable: chosen}}, dependencies: [route]}}
  - {{name: cut, type: batchable, handler: {{callable: cut}}}}
  - name: work
    type: batch_worker
    handler: {{callable: work}}
    dependencies: [cut]
    batch_config: {{parallelism: 1}}
  - {{name: sum, type: deferred_convergence, handler: {{callable: sum}}, dependencies: [work]}}
""")
    assert report.template is not None, report.findings
    return report.template


CHOSEN = {"decision_point_outcome": {"type": "create_steps", "step_names": ["chosen"]}}
CUT = {
    "batch_processing_outcome": {
        "type": "create_batches",
        "worker_template_name": "work",
        "cursor_configs": [{"batch_id": "1"}, {"batch_id": "2"}, {"batch_id": "3"}],
    }
}


@dataclass
class Scene:
    """Two tasks of one template, and who holds what of them; a third one has ended."""

    conn: asyncpg.Connection
    clock: Clock
    template: TaskTemplate
    lanes: dict[str, int]
    worker: Worker
    task: UUID = field(init=False)
    other: UUID = field(init=False)
    claims: dict[tuple[UUID, str], Claim] = field(default_factory=dict)
    expansion: str | None = None

    async def set(self) -> None:
        """Begin both tasks and bring their steps where they are to be."""
        self.worker.lease = HOUR
        await cancel_task(self.conn, await begin_one(self.conn, self.template), **BY)
        self.task, self.other = sorted(
            [await begin_one(self.conn, self.template), await begin_one(self.conn, self.template)]
        )
        await self.worker.succeed(*await self.take("done"))
        for one in await self.take("cut"):
            await self.worker.finish(replace(done(one, CUT), expansion=await self.plan(one, CUT)))
        await self.worker.fail(*await self.take("due"))
        silent = Worker(self.conn, [self.lanes["lost"]])
        await silent.claim()
        for one in await self.take("held_1", "held_2", "route", "work"):
            self.claims[one.task_uuid, one.template_step] = one
        if self.template.on_failure == "continue":
            await self.worker.fail(*await self.take("broken"), retryable=False)
        self.expansion = await self.plan(self.claims[self.task, "route"], CHOSEN)
        await self.clock.advance(60)

    async def take(self, *callables: str) -> list[Claim]:
        self.worker.lanes = [self.lanes[one] for one in callables]
        claims = await self.worker.claim()
        self.worker.lanes = list(self.lanes.values())
        return claims

    async def plan(self, claim: Claim, result: Any) -> str | None:
        step = self.template.step(claim.template_step)
        return await plan_expansion(self.conn, self.template, step, claim.task_uuid, result)

    def held(self, name: str, of: UUID | None = None) -> Claim:
        return self.claims[of or self.task, name]


Call = Callable[[asyncpg.Connection, Scene], Awaitable[Any]]


def by_worker(call: Callable[[Worker, Scene], Awaitable[Any]]) -> Call:
    return lambda conn, scene: call(replace(scene.worker, conn=conn), scene)


def by_operator(act: Callable[..., Awaitable[Any]], name: str, **more: Any) -> Call:
    async def call(conn: asyncpg.Connection, scene: Scene) -> None:
        await act(conn, scene.task, await step_id(conn, scene.task, name), **BY, **more)

    return call


def complete(name: str, result: Any, **more: Any) -> Call:
    async def call(conn: asyncpg.Connection, scene: Scene) -> None:
        step = await step_id(conn, scene.task, name)
        await complete_step(conn, TemplateShelf(), scene.task, step, result=result, **BY, **more)

    return call


def yielded(claim: Claim) -> Finished:
    checkpoint = encode({"cursor": 1})
    return Finished(
        claim.task_uuid, claim.step_no, claim.attempt, None, None, checkpoint=checkpoint
    )


async def finish_inside(conn: asyncpg.Connection, scene: Scene) -> None:
    """Record a result in a transaction of the handler's own."""
    claim, worker = scene.held("held_1"), scene.worker.uuid
    async with conn.transaction():
        began = await conn.fetchval("select pg_current_xact_id()::text")
        await ask(conn, finish_in_transaction(worker, began, done(claim)))


CALLS: dict[str, Call] = {
    "claim": by_worker(lambda w, s: w.claim(3)),
    "finish_one": by_worker(lambda w, s: w.finish(done(s.held("held_1")), claim=2)),
    "finish_two": by_worker(
        lambda w, s: w.finish(
            done(s.held("held_2")), done(s.held("held_1", s.other)), done(s.held("work")), claim=9
        )
    ),
    "finish_inside": finish_inside,
    "finish_other": by_worker(
        lambda w, s: w.finish(
            done(s.held("held_2", s.other)), failed(s.held("held_1"), retryable=False)
        )
    ),
    "fail_for_good": by_worker(lambda w, s: w.fail(s.held("held_2"), retryable=False)),
    "fail_a_batch_worker": by_worker(lambda w, s: w.fail(s.held("work"), retryable=False)),
    "fail_once": by_worker(lambda w, s: w.fail(s.held("held_1"))),
    "decide": by_worker(
        lambda w, s: w.finish(replace(done(s.held("route"), CHOSEN), expansion=s.expansion))
    ),
    "yield": by_worker(lambda w, s: w.finish(yielded(s.held("held_1")), claim=1)),
    "give_back": by_worker(lambda w, s: w.give_back(s.held("held_1"), s.held("route", s.other))),
    "renew": by_worker(lambda w, s: w.renew(s.held("held_1"), s.held("held_2"))),
    "sweep": lambda conn, s: sweep(conn),
    "cancel": lambda conn, s: cancel_task(conn, s.task, **BY),
    "cancel_other": lambda conn, s: cancel_task(conn, s.other, **BY),
    "resolve_task": lambda conn, s: resolve_task(conn, s.task, **BY),
    "reset_task": lambda conn, s: reset_task(conn, s.task, **BY),
    "reset": by_operator(reset_step, "broken"),
    "resolve_broken": by_operator(resolve_step, "broken"),
    "resolve_ready": by_operator(resolve_step, "ready"),
    "resolve_running": by_operator(resolve_step, "held_1", force=True),
    "complete_due": complete("due", {}),
    "complete_decision": complete("route", CHOSEN, force=True),
    "prune": lambda conn, s: prune_tasks(conn, older_than=timedelta(0)),
    "create": lambda conn, s: begin_one(conn, s.template),
}
REFUSALS = (TransitionRefused,)


@dataclass(frozen=True)
class Meeting:
    """The first stops before its n-th statement, and the second comes."""

    on_failure: str
    first: str
    second: str
    point: int

    def __str__(self) -> str:
        return f"{self.on_failure}: {self.first} > {self.second} @ {self.point}"


def chosen() -> list[Meeting]:
    """Choose the meetings of this run."""
    everything = [
        Meeting(on_failure, first, second, point)
        for on_failure in ("continue", "halt")
        for first in CALLS
        for second in CALLS
        for point in range(1, MOST_POINTS)
    ]
    if WANTED == "all":
        return everything
    if WANTED.isdigit():
        near = [meeting for meeting in everything if meeting.point <= 12]
        return random.Random(os.environ.get("TASKER_SEED")).sample(near, int(WANTED))
    return [meeting for meeting in everything if str(meeting) == WANTED]


@dataclass
class Stage:
    """The connections on which calls meet."""

    conn: asyncpg.Connection
    one: asyncpg.Connection
    two: asyncpg.Connection
    clock: Clock

    async def play(self, meeting: Meeting, template: TaskTemplate) -> bool:
        """Let two calls meet; False when the first has no such point any more."""
        await self.conn.execute(";".join(f"delete from tasker.{table}" for table in _TABLES))
        await self.clock.tick()
        lanes = {lane.callable: lane.lane for lane in await list_lanes(self.conn)}
        scene = Scene(self.conn, self.clock, template, lanes, Worker(self.conn))
        await scene.set()

        await self.conn.execute("select pg_advisory_lock($1)", LOCK)
        await self.one.execute(
            "select set_config('test.passed', '0', false), set_config('test.stopped', '', false), "
            f"set_config('test.stop', '{meeting.point}', false)"
        )
        first = asyncio.ensure_future(CALLS[meeting.first](self.one, scene))
        await self.until_it_waits(self.one, first)
        second = asyncio.ensure_future(CALLS[meeting.second](self.two, scene))
        await self.until_it_waits(self.two, second)
        await self.conn.execute("select pg_advisory_unlock($1)", LOCK)
        for outcome in await asyncio.gather(first, second, return_exceptions=True):
            if isinstance(outcome, asyncpg.PostgresError) and outcome.sqlstate == GROWN:
                continue
            if isinstance(outcome, BaseException) and not isinstance(outcome, REFUSALS):
                raise outcome
        stopped = await self.one.fetchval("select current_setting('test.stopped')")
        await self.one.execute("select set_config('test.stop', '', false)")
        await check_invariants(self.conn)
        await check_history(self.conn)
        await self.drive_home(scene)
        return bool(stopped)

    async def until_it_waits(self, conn: asyncpg.Connection, call: asyncio.Future[Any]) -> None:
        """Look until a call is done or waits for a lock."""
        pid = conn.get_server_pid()
        waits = "select cardinality(pg_blocking_pids($1)) > 0"
        while not call.done():
            if await self.conn.fetchval(waits, pid):
                break

    async def drive_home(self, scene: Scene) -> None:
        """Sweep, run and resolve until everything has ended."""
        for _ in range(20):
            if not await self.conn.fetchval(
                "select 1 from tasker.tasks where completed_at is null"
            ):
                break
            await self.clock.advance(4000)
            await sweep(self.conn)
            await scene.worker.succeed(*await scene.worker.claim(1000))
            for row in await self.conn.fetch(
                "select task_uuid, step_no from tasker.steps as step "
                "join tasker.tasks as task using (task_uuid) "
                "where step.state = 'error' and task.completed_at is null"
            ):
                task = row["task_uuid"]
                step = UUID(int=task.int + row["step_no"])
                await resolve_step(self.conn, task, step, **BY)
        else:
            pytest.fail("a task is stuck")
        await check_invariants(self.conn)


@pytest.fixture
async def stage(conn, connect, clock) -> Any:
    """Two connections whose calls can be stopped before any statement."""
    await conn.execute(_PAUSES)
    for table in _TABLES:
        await conn.execute(
            f"create trigger test_point before insert or update or delete on tasker.{table} "
            "for each statement execute function test_clock.before_statement()"
        )
    one, two = await connect(), await connect()
    for each in (one, two):
        await each.execute("set lock_timeout = '20s'; set statement_timeout = '30s'")
    yield Stage(conn, one, two, clock)
    for table in _TABLES:
        await conn.execute(f"drop trigger test_point on tasker.{table}")


async def test_a_lease_is_renewed_while_its_result_is_recorded(stage: Stage, clock: Clock) -> None:
    """The renewal moves the lease; it goes all the same, and the result counts."""
    await clock.tick()
    template = flow("continue")
    await begin_one(stage.conn, template)  # registers it
    for point in range(1, MOST_POINTS):
        meeting = Meeting("continue", "finish_two", "renew", point)
        if not await stage.play(meeting, template):
            break
        assert await stage.conn.fetchval(
            "select count(*) from tasker.attempts join tasker.steps using (task_uuid, step_no) "
            "where name = 'held_2' and outcome = 'complete' and attempts.attempt = 1"
        ), str(meeting)
    assert point > 5


async def test_whatever_meets_whatever_at_any_point(stage: Stage, clock: Clock) -> None:
    """No ring, no contradiction, nothing stuck."""
    await clock.tick()
    templates = {name: flow(name) for name in ("continue", "halt")}
    for template in templates.values():
        await begin_one(stage.conn, template)  # registers it
    played = 0
    over: set[tuple[str, str, str]] = set()
    for meeting in chosen():
        pair = (meeting.on_failure, meeting.first, meeting.second)
        if WANTED == "all" and pair in over:
            continue
        try:
            has_point = await stage.play(meeting, templates[meeting.on_failure])
        except BaseException as error:
            error.add_note(f"in the meeting {meeting}")
            raise
        played += has_point
        if not has_point:
            over.add(pair)
    print(f"{played} meetings at a point that there is")
    assert played
