"""Ready steps are lent to workers: the right ones, in the right order, never twice."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from support.clock import START
from support.flows import (
    CHAIN,
    DIAMOND,
    ONE,
    Worker,
    begin,
    begin_one,
    by_name,
    done,
    failed,
    names,
    state,
    states,
    template,
)
from tasker_core.engine.claim import held_steps, list_lanes, read_context, read_results
from tasker_core.engine.inspect import get_step, get_task
from tasker_core.payload import decode
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")


async def lane_of(conn, callable_) -> int:
    return next(lane.lane for lane in await list_lanes(conn) if lane.callable == callable_)


async def test_a_claim_brings_all_that_a_handler_needs(conn, worker, clock):
    """Ids, attempt, policy, context and the results of the parents."""
    correlation, parent = uuid4(), uuid4()
    flow = template(CHAIN, retry={"max_attempts": 5})
    task = await begin_one(
        conn, flow, context={"n": 1}, correlation_id=correlation, parent_correlation_id=parent
    )
    await worker.succeed(await worker.claim_one(), result={"from": "a"})

    claim = await worker.claim_one()

    assert (claim.task_uuid, claim.step_no, claim.attempt) == (task, 2, 1)
    assert (claim.name, claim.template_step) == ("b", "b")
    assert claim.template_uuid == (await get_task(conn, task)).template_uuid
    assert (claim.forgiven, claim.max_attempts, claim.claimed_at) == (0, 5, START)
    assert (claim.correlation_id, claim.parent_correlation_id) == (correlation, parent)
    assert decode(claim.context) == {"n": 1}
    assert decode(claim.parent_results) == {"a": {"from": "a"}}
    assert (claim.inputs, claim.checkpoint) == (None, None)


async def test_a_claimed_step_is_in_progress(conn, worker, clock):
    """Whoever looks sees the worker, the moment and the attempt."""
    task = await begin_one(conn, template())
    await worker.claim_one()

    step = await get_step(conn, task, 1)

    assert (step.state, step.attempts) == (StepState.IN_PROGRESS, 1)
    assert (step.worker_uuid, step.claimed_at) == (worker.uuid, START)
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS


async def test_a_step_without_parents_has_no_parent_results(conn, worker):
    """None, not an empty object."""
    await begin_one(conn, template())

    assert (await worker.claim_one()).parent_results is None


async def test_higher_priority_goes_first_then_the_older_task(conn, worker):
    """Within one lane, one step after the other."""
    low = await begin(conn, template(), 2, priority=-1)
    plain = await begin(conn, template(), 2)
    high = await begin(conn, template(), 2, priority=5)

    claimed = [(await worker.claim(1))[0].task_uuid for _ in range(6)]

    assert claimed == [*sorted(high), *sorted(plain), *sorted(low)]


async def test_several_claims_at_once_come_best_first(conn, worker):
    """The order of the answer is the order in which to begin."""
    low = await begin(conn, template(), 3, priority=-1)
    high = await begin(conn, template(), 3, priority=5)

    claims = await worker.claim(5)

    assert [claim.task_uuid for claim in claims] == [*sorted(high), *sorted(low)[:2]]


async def test_the_lane_with_the_best_step_goes_first(conn, worker):
    """So that a full lane of no importance keeps nobody waiting."""
    await begin(conn, template({"dull": []}, name="one"), 5)
    await begin_one(conn, template({"urgent": []}, name="two"), priority=1)

    assert names(await worker.claim(2)) == ["dull", "urgent"]


async def test_only_given_lanes_are_claimed(conn, connect, worker):
    """A worker never gets a step that it has no handler for."""
    await begin_one(conn, template({"a": [], "b": []}))
    picky = Worker(await connect(), lanes=[await lane_of(conn, "b")])

    assert names(await picky.claim()) == ["b"]
    assert names(await picky.claim()) == []
    assert names(await Worker(conn, lanes=[]).claim()) == []
    assert names(await worker.claim()) == ["a"]


@pytest.mark.parametrize("limit", [0, 1, 3, 7])
async def test_no_more_is_claimed_than_there_is_room_for(conn, worker, limit):
    """Over all lanes together."""
    await begin(conn, template({"a": [], "b": []}), 3)

    assert len(await worker.claim(limit)) == min(limit, 6)


async def test_two_workers_share_the_steps(conn, connect):
    """Two open transactions that claim at once get every step between them, once."""
    tasks = await begin(conn, template(), 10)
    one, two = Worker(await connect()), Worker(await connect())

    async with one.conn.transaction(), two.conn.transaction():
        first = await one.claim(6)
        second = await two.claim(6)

    assert len(first) == 6
    assert sorted(claim.task_uuid for claim in first + second) == sorted(tasks)


async def test_a_claim_that_is_rolled_back_leaves_the_step_ready(conn, connect, worker):
    """As if nobody had asked: not even the attempt counts."""
    task = await begin_one(conn, template())
    other = Worker(await connect())
    transaction = other.conn.transaction()
    await transaction.start()
    await other.claim_one()
    assert await worker.claim() == []

    await transaction.rollback()

    assert (await worker.claim_one()).attempt == 1
    assert await states(conn, task) == {"a": StepState.IN_PROGRESS}


async def test_a_worker_can_ask_what_it_holds(conn, connect, worker):
    """All of its own claims as they were handed out, and nobody else's."""
    await begin(conn, template(DIAMOND), 3)
    mine = await worker.claim(2)
    other = Worker(conn)
    theirs = await other.claim()

    def key(claim):
        return claim.task_uuid

    assert sorted(await held_steps(conn, worker.uuid), key=key) == sorted(mine, key=key)
    assert await held_steps(conn, other.uuid) == theirs


@pytest.mark.parametrize("filler", ["x", "é", "random"])
async def test_what_is_over_32_kb_is_not_sent_along(conn, worker, filler):
    """Neither a context nor a result, however well it compresses; both can be read."""
    text = "".join(uuid4().hex for _ in range(1200)) if filler == "random" else filler * 40_000
    task = await begin_one(conn, template(CHAIN), context={"text": text})

    first = await worker.claim_one()
    assert first.context is None
    assert decode(await read_context(conn, task)) == {"text": text}
    await worker.succeed(first, result={"text": text})

    second = await worker.claim_one()
    assert second.parent_results is None
    results = await read_results(conn, task, ["a", "b"])
    assert {name: decode(result) for name, result in results.items()} == {"a": {"text": text}}


async def test_what_is_just_short_enough_is_sent_along(conn, worker):
    """Up to 32,768 bytes of JSON."""
    text = "x" * (32_768 - len('{"text":""}'))
    await begin_one(conn, template(CHAIN), context={"text": text})

    first = await worker.claim_one()
    assert decode(first.context) == {"text": text}
    await worker.succeed(first, result={"text": text})

    assert decode((await worker.claim_one()).parent_results) == {"a": {"text": text}}


async def test_a_large_result_does_not_hide_the_others(conn, worker):
    """Only it is left out."""
    task = await begin_one(conn, template(DIAMOND))
    await worker.run("a")
    claims = by_name(await worker.claim())
    await worker.finish(done(claims["b"], ["x" * 40_000]), done(claims["c"], [1]))

    assert decode((await worker.claim_one()).parent_results) == {"c": [1]}
    assert list(await read_results(conn, task, ["b"])) == ["b"]


@pytest.mark.parametrize(("parents", "are_sent"), [(16, True), (17, False)])
async def test_results_of_more_than_sixteen_parents_are_not_sent_along(
    conn, worker, parents, are_sent
):
    """The worker reads them when a handler asks."""
    graph = {f"p{n}": [] for n in range(parents)}
    task = await begin_one(conn, template({**graph, "join": list(graph)}))
    await worker.succeed(*await worker.claim())

    claim = await worker.claim_one()

    expected = {name: {"by": name} for name in graph}
    assert decode(claim.parent_results) == (expected if are_sent else None)
    read = await read_results(conn, task, list(graph))
    assert {name: decode(result) for name, result in read.items()} == expected


async def test_a_null_result_is_a_result(conn, worker):
    """A child can tell it from none."""
    await begin_one(conn, template(CHAIN))
    await worker.finish(done(await worker.claim_one(), None))

    assert decode((await worker.claim_one()).parent_results) == {"a": None}


async def test_due_steps_are_enqueued_for_all_lanes(conn, connect, worker, clock, heard):
    """Whoever claims first after their time enqueues them, and tells the others."""
    task = await begin_one(conn, template(ONE))
    await worker.fail(await worker.claim_one())
    await heard()
    await clock.advance(60)
    stranger = Worker(await connect(), lanes=[])

    assert await stranger.claim() == []

    assert await states(conn, task) == {"a": StepState.ENQUEUED}
    assert await heard() == ["shop"]
    assert (await worker.claim_one()).attempt == 2


async def test_a_lease_lasts_as_long_as_asked(conn, worker, clock):
    """Counted from the claim, by the clock of the database."""
    await begin_one(conn, template())
    worker.lease = timedelta(seconds=7)
    await worker.claim_one()

    assert await conn.fetchval("select ends_at from tasker.leases") == START + worker.lease


async def test_a_point_of_priority_is_worth_a_minute(conn, worker, clock):
    """So whoever waits goes before all that come later than that, however urgent they are."""
    patient = await begin_one(conn, template())
    await clock.advance(4 * 60)
    before = await begin_one(conn, template(), priority=5)
    await clock.advance(2 * 60)
    after = await begin_one(conn, template(), priority=5)

    claimed = [(await worker.claim(1))[0].task_uuid for _ in range(3)]

    assert claimed == [before, patient, after]


async def test_namespaces_share_what_a_worker_has_room_for(conn, worker):
    """A flood in one does not hold up the others; what one does not need is for the rest."""
    flood = await begin(conn, template(namespace="flood"), 10)
    few = await begin(conn, template(namespace="few"), 1)
    some = await begin(conn, template(namespace="some"), 5)
    worker.lanes = await served(conn, "flood", "few", "some")

    claimed = [claim.task_uuid for claim in await worker.claim(9)]

    assert claimed == [*sorted(flood)[:3], *few, *sorted(some)]


async def test_the_namespace_named_first_is_served_first(conn, worker):
    """A worker with room for one step names another one each time."""
    await begin(conn, template(namespace="flood"), 10)
    few = await begin_one(conn, template(namespace="few"))
    worker.lanes = await served(conn, "few", "flood")

    assert [claim.task_uuid for claim in await worker.claim(1)] == [few]


async def test_whatever_one_namespace_leaves_goes_to_the_others(conn, worker):
    """Also to those that had their share already."""
    flood = await begin(conn, template(namespace="flood"), 10)
    few = await begin(conn, template(namespace="few"), 2)
    worker.lanes = await served(conn, "flood", "few")

    claimed = [claim.task_uuid for claim in await worker.claim(8)]

    assert claimed == [*sorted(flood)[:4], *sorted(few), *sorted(flood)[4:6]]


@pytest.mark.parametrize("queued", [1, 5, 70])
async def test_a_worker_that_serves_very_many_lanes_finds_the_work(conn, worker, queued):
    """In few of them or in all, and in the order in which it names the namespaces."""
    spaces = [f"space_{number:02}" for number in range(70)]
    for space in spaces:
        await begin_one(conn, template(namespace=space))
    for claim in await worker.claim(100):
        await worker.succeed(claim)
    busy = spaces[:queued]
    begun = [await begin_one(conn, template(namespace=space)) for space in busy]
    worker.lanes = await served(conn, *reversed(spaces))

    claimed = [claim.task_uuid for claim in await worker.claim(100)]

    assert claimed == begun[::-1]


async def served(conn, *namespaces):
    lanes = await list_lanes(conn)
    return [lane.lane for name in namespaces for lane in lanes if lane.namespace == name]


async def test_a_sibling_that_is_due_brings_no_other_with_it(conn, worker, clock):
    """Each retry has its own time, also within one task."""
    await begin_one(conn, template({"soon": [], "late": []}))
    claims = by_name(await worker.claim())
    await worker.finish(
        failed(claims["soon"], rest=timedelta(seconds=1)),
        failed(claims["late"], rest=timedelta(seconds=10)),
    )
    await clock.advance(5)

    assert names(await worker.claim()) == ["soon"]
    await clock.advance(5)
    assert names(await worker.claim()) == ["late"]
