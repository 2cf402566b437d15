"""Steps that are added while a task runs: with the result that asks for them, or not at all."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import asyncpg
import pytest

from support.flows import Worker, begin_one, by_name, done, names, state, states, step_id
from support.gates import random_says, random_template
from tasker_core.engine.claim import Claim
from tasker_core.engine.expand import plan_expansion
from tasker_core.engine.finish import GROWN, Finished
from tasker_core.engine.inspect import list_steps
from tasker_core.engine.operate import reset_step, resolve_step
from tasker_core.errors import InvalidExpansion
from tasker_core.payload import decode, encode
from tasker_core.states import StepState, TaskState
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

pytestmark = pytest.mark.usefixtures("consistent")

APPROVAL = """
name: approval
namespace_name: shop
version: 1.0.0
steps:
  - {name: validate, handler: {callable: any}}
  - {name: route, type: decision, handler: {callable: any}, dependencies: [validate]}
  - {name: automatic, handler: {callable: any}, dependencies: [route]}
  - {name: manager, handler: {callable: any}, dependencies: [route]}
  - {name: finance, handler: {callable: any}, dependencies: [route]}
  - name: finalize
    type: deferred_convergence
    handler: {callable: any}
    dependencies: [automatic, manager, finance]
  - {name: archive, handler: {callable: any}, dependencies: [finalize]}
"""

BATCH = """
name: batch
namespace_name: shop
version: 1.0.0
steps:
  - name: analyze
    type: batchable
    handler: {callable: any, initialization: {worker_template_name: work}}
  - name: work
    type: batch_worker
    handler: {callable: any}
    dependencies: [analyze]
    batch_config: {batch_size: 2}
  - {name: total, type: deferred_convergence, handler: {callable: any}, dependencies: [work]}
  - {name: report, handler: {callable: any}, dependencies: [total]}
"""

TWO_DECISIONS = """
name: two
namespace_name: shop
version: 1.0.0
steps:
  - {name: start, handler: {callable: any}}
  - {name: left, type: decision, handler: {callable: any}, dependencies: [start]}
  - {name: right, type: decision, handler: {callable: any}, dependencies: [start]}
  - {name: left_work, handler: {callable: any}, dependencies: [left]}
  - {name: right_work, handler: {callable: any}, dependencies: [right]}
  - name: meet
    type: deferred_convergence
    handler: {callable: any}
    dependencies: [left_work, right_work]
"""


JOIN = """
name: join
namespace_name: shop
version: 1.0.0
steps:
  - {name: validate, handler: {callable: x}}
  - {name: one, type: batchable, handler: {callable: x}, batch_config: {}}
  - {name: one_work, type: batch_worker, handler: {callable: x}, dependencies: [one]}
  - {name: one_total, type: deferred_convergence, handler: {callable: x}, dependencies: [one_work]}
  - {name: two, type: batchable, handler: {callable: x}, batch_config: {}}
  - {name: two_work, type: batch_worker, handler: {callable: x}, dependencies: [two]}
  - {name: two_total, type: deferred_convergence, handler: {callable: x}, dependencies: [two_work]}
  - {name: start, type: decision, handler: {callable: x}, dependencies: [validate]}
  - {name: p, handler: {callable: x}, dependencies: [start, one_total, two_total]}
"""


def read(yaml: str) -> TaskTemplate:
    """Read a template."""
    report = parse_template(yaml)
    assert report.template is not None, report.findings
    return report.template


def chose(*steps: str) -> dict[str, Any]:
    """Say what a decision handler returns."""
    return {"decision_point_outcome": {"type": "create_steps", "step_names": list(steps)}}


def cut(*ids: str) -> dict[str, Any]:
    """Say what an analyzer returns."""
    cursors = [
        {"batch_id": one, "start_cursor": at, "end_cursor": at + 1, "batch_size": 1}
        for at, one in enumerate(ids)
    ]
    outcome = {"type": "create_batches", "worker_template_name": "work", "cursor_configs": cursors}
    return {"batch_processing_outcome": outcome}


async def expanding(
    conn: asyncpg.Connection, flow: TaskTemplate, claim: Claim, result: Any
) -> Finished:
    """End an attempt well, with what its result adds."""
    step = flow.step(claim.template_step)
    expansion = await plan_expansion(conn, flow, step, claim.task_uuid, result)
    return Finished(
        claim.task_uuid, claim.step_no, claim.attempt, encode(result), None, expansion=expansion
    )


async def run_rest(worker: Worker) -> list[str]:
    """Run whatever is ready until nothing is; give the names in the order of running."""
    ran = []
    while claims := await worker.claim():
        ran += sorted(claim.name for claim in claims)
        await worker.succeed(*claims)
    return ran


@pytest.mark.parametrize(
    ("chosen", "follows"),
    [
        (["automatic"], ["automatic", "finalize", "archive"]),
        (["manager"], ["manager", "finalize", "archive"]),
        (["manager", "finance"], ["finance", "manager", "finalize", "archive"]),
    ],
)
async def test_a_decision_adds_what_it_chose_and_what_follows(conn, worker, chosen, follows):
    """Only the chosen branches come into being; the convergence waits for exactly those."""
    flow = read(APPROVAL)
    task = await begin_one(conn, flow)
    assert set(await states(conn, task)) == {"validate", "route"}
    await worker.run("validate")
    route = await worker.claim_one()

    await worker.finish(await expanding(conn, flow, route, chose(*chosen)))

    assert set(await states(conn, task)) == {"validate", "route", *follows}
    assert await run_rest(worker) == follows
    assert await state(conn, task) is TaskState.COMPLETE


async def test_no_branches_completes_the_task(conn, worker):
    """A decision that chooses nothing leaves nothing to do."""
    flow = read(APPROVAL)
    task = await begin_one(conn, flow)
    await worker.run("validate")
    route = await worker.claim_one()

    result = {"decision_point_outcome": {"type": "no_branches"}}
    await worker.finish(await expanding(conn, flow, route, result))

    assert set(await states(conn, task)) == {"validate", "route"}
    assert await state(conn, task) is TaskState.COMPLETE


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"decision_point_outcome": {"type": "maybe"}},
        {"decision_point_outcome": {"type": "create_steps"}},
        chose("validate"),
        chose("finalize"),
        chose("nobody"),
    ],
)
async def test_a_decision_that_cannot_be_followed_is_refused(conn, worker, result):
    """A result without an outcome, or with steps it does not lead to, plans nothing."""
    flow = read(APPROVAL)
    await begin_one(conn, flow)
    await worker.run("validate")
    route = await worker.claim_one()

    with pytest.raises(InvalidExpansion):
        await expanding(conn, flow, route, result)


async def test_a_batch_runs_in_parallel_and_converges(conn, worker):
    """One worker a batch, each with its cursor; the convergence waits for all of them."""
    flow = read(BATCH)
    task = await begin_one(conn, flow)
    analyze = await worker.claim_one()

    await worker.finish(await expanding(conn, flow, analyze, cut("001", "002", "003")))

    claims = await worker.claim()
    assert names(claims) == ["work_001", "work_002", "work_003"]
    assert {claim.template_step for claim in claims} == {"work"}
    assert '"batch_id":"002"' in (by_name(claims)["work_002"].inputs or "")
    await worker.succeed(*claims[:2])
    assert (await states(conn, task))["total"] is StepState.PENDING
    await worker.succeed(claims[2])
    assert await run_rest(worker) == ["total", "report"]
    assert await state(conn, task) is TaskState.COMPLETE


async def test_no_batches_makes_one_placeholder(conn, worker):
    """An analyzer that names its worker template gets one worker with nothing to do."""
    flow = read(BATCH)
    await begin_one(conn, flow)
    analyze = await worker.claim_one()

    result = {"batch_processing_outcome": {"type": "no_batches"}}
    await worker.finish(await expanding(conn, flow, analyze, result))

    placeholder = await worker.claim_one()
    assert placeholder.name == "work_000"
    assert '"is_no_op":true' in (placeholder.inputs or "")
    await worker.succeed(placeholder)
    assert await run_rest(worker) == ["total", "report"]


@pytest.mark.parametrize(
    "outcome",
    [
        {"type": "create_batches", "worker_template_name": "work", "cursor_configs": []},
        {"type": "create_batches", "worker_template_name": "total", "cursor_configs": [{}]},
        {
            "type": "create_batches",
            "worker_template_name": "work",
            "worker_count": 2,
            "cursor_configs": [{"batch_id": "1"}],
        },
        {
            "type": "create_batches",
            "worker_template_name": "work",
            "cursor_configs": [{"batch_id": "1"}, {"batch_id": "1"}],
        },
    ],
)
async def test_batches_that_make_no_sense_are_refused(conn, worker, outcome):
    """No batches, a wrong worker, a wrong count, the same id twice: nothing is planned."""
    flow = read(BATCH)
    await begin_one(conn, flow)
    analyze = await worker.claim_one()

    with pytest.raises(InvalidExpansion):
        await expanding(conn, flow, analyze, {"batch_processing_outcome": outcome})


async def test_a_plan_for_a_task_that_has_grown_changes_nothing(conn, worker):
    """Two decisions planned on the same task: the second has to plan again."""
    flow = read(TWO_DECISIONS)
    task = await begin_one(conn, flow)
    await worker.run("start")
    decisions = by_name(await worker.claim())
    left = await expanding(conn, flow, decisions["left"], chose("left_work"))
    right = await expanding(conn, flow, decisions["right"], chose("right_work"))
    await worker.finish(left)

    with pytest.raises(asyncpg.PostgresError) as caught:
        await worker.finish(right)

    assert caught.value.sqlstate == GROWN
    assert (await states(conn, task))["right"] is StepState.IN_PROGRESS
    again = await expanding(conn, flow, decisions["right"], chose("right_work"))
    await worker.finish(again)
    assert await run_rest(worker) == ["left_work", "right_work", "meet"]
    assert await state(conn, task) is TaskState.COMPLETE


@pytest.mark.parametrize("right", [("right_work",), ()])
async def test_a_convergence_waits_until_both_decisions_have_ended(conn, worker, right):
    """One branch is through before the other is chosen: the convergence is not there yet."""
    flow = read(TWO_DECISIONS)
    task = await begin_one(conn, flow)
    await worker.run("start")
    decisions = by_name(await worker.claim())
    await worker.finish(await expanding(conn, flow, decisions["left"], chose("left_work")))
    await worker.run("left_work")
    assert "meet" not in await states(conn, task)

    await worker.finish(await expanding(conn, flow, decisions["right"], chose(*right)))

    assert await run_rest(worker) == [*right, "meet"]
    assert await state(conn, task) is TaskState.COMPLETE


async def test_two_empty_batches_that_end_at_once(conn, worker):
    """What waits for two gates is added by the later of them, even when neither adds steps."""
    flow = read(JOIN)
    task = await begin_one(conn, flow)
    await worker.run("validate")
    claims = by_name(await worker.claim())
    nothing = {"batch_processing_outcome": {"type": "no_batches"}}
    await worker.finish(await expanding(conn, flow, claims["start"], chose("p")))
    first = await expanding(conn, flow, claims["one"], nothing)
    second = await expanding(conn, flow, claims["two"], nothing)

    await worker.finish(first)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await worker.finish(second)

    assert caught.value.sqlstate == GROWN
    assert "p" not in await states(conn, task)
    await worker.finish(await expanding(conn, flow, claims["two"], nothing))
    assert await run_rest(worker) == ["p"]
    assert await state(conn, task) is TaskState.COMPLETE


async def test_a_resolved_gate_keeps_nobody_waiting(conn, worker):
    """Without a result, an analyzer adds nothing; what waited for it goes on."""
    flow = read(JOIN)
    task = await begin_one(conn, flow)
    await worker.run("validate")
    claims = by_name(await worker.claim())
    nothing = {"batch_processing_outcome": {"type": "no_batches"}}
    await worker.finish(await expanding(conn, flow, claims["start"], chose("p")))
    await worker.finish(await expanding(conn, flow, claims["one"], nothing))
    await worker.give_back(claims["two"])

    two = await step_id(conn, task, "two")
    await resolve_step(conn, task, two, actor="ops", reason="there is nothing")

    assert await run_rest(worker) == ["p"]
    assert await state(conn, task) is TaskState.COMPLETE


@pytest.mark.parametrize("seed", range(8))
async def test_random_gates_in_random_order(conn, worker, seed):
    """Whatever the template and the choices: every step after its dependencies, once."""
    random = Random(seed)
    flow = random_template(random, 14)
    says = random_says(random, flow)
    task = await begin_one(conn, flow)
    ran: list[str] = []
    source: dict[str, str] = {}  # each step's name in the template

    while claims := await worker.claim():
        claim = random.choice(claims)
        await worker.give_back(*(one for one in claims if one is not claim))
        step = flow.step(claim.template_step)
        if step.type in ("decision", "batchable"):
            end = await expanding(conn, flow, claim, says.result(step.name))
        else:
            end = done(claim, {})
        await worker.finish(end)
        ran.append(claim.name)
        source[claim.name] = claim.template_step

    assert await state(conn, task) is TaskState.COMPLETE
    assert sorted(ran) == sorted(step.name for step in await list_steps(conn, task))
    for at, name in enumerate(ran):
        after = {source[later] for later in ran[at:]}
        assert after.isdisjoint(flow.step(source[name]).dependencies)


async def test_a_late_result_adds_nothing(conn, worker):
    """The decision of a worker that lost its lease is refused with all that it would add."""
    flow = read(APPROVAL)
    task = await begin_one(conn, flow)
    await worker.run("validate")
    route = await worker.claim_one()
    end = await expanding(conn, flow, route, chose("manager"))

    work = await Worker(conn).finish(end)

    assert [one.reason for one in work.refusals] == ["its lease had ended"]
    assert set(await states(conn, task)) == {"validate", "route"}
    await worker.finish(end)
    assert "manager" in await states(conn, task)


async def test_repeating_a_decision_adds_nothing_twice(conn, worker):
    """A call whose commit is unknown is repeated: the steps are there once."""
    flow = read(APPROVAL)
    task = await begin_one(conn, flow)
    await worker.run("validate")
    route = await worker.claim_one()
    end = await expanding(conn, flow, route, chose("manager"))
    await worker.finish(end)
    before = await states(conn, task)

    work = await worker.finish(end)

    assert work.refusals == []
    assert await states(conn, task) == before


async def test_a_failed_branch_blocks_and_resumes(conn, worker):
    """What a decision added fails and is reset like any other step."""
    flow = read(APPROVAL)
    task = await begin_one(conn, flow)
    await worker.run("validate")
    route = await worker.claim_one()
    await worker.finish(await expanding(conn, flow, route, chose("manager", "finance")))
    claims = by_name(await worker.claim())
    await worker.fail(claims["manager"], retryable=False)
    await worker.finish(done(claims["finance"], {}))
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES

    manager = await step_id(conn, task, "manager")
    await reset_step(conn, task, manager, actor="ops", reason="mended")

    assert await run_rest(worker) == ["manager", "finalize", "archive"]
    assert await state(conn, task) is TaskState.COMPLETE


async def test_a_wide_batch_is_added_in_one_go(conn, worker):
    """A thousand workers and their convergence: one call adds them, one by one they finish."""
    flow = read(BATCH.replace("batch_size: 2", "parallelism: 1000"))
    task = await begin_one(conn, flow)
    analyze = await worker.claim_one()
    ids = [f"{number:04}" for number in range(1000)]

    await worker.finish(await expanding(conn, flow, analyze, cut(*ids)))

    claims = await worker.claim(2000)
    assert len(claims) == 1000
    await worker.succeed(*claims)
    assert await run_rest(worker) == ["total", "report"]
    assert await state(conn, task) is TaskState.COMPLETE


async def test_how_the_work_is_divided_may_stand_on_the_worker(conn, worker):
    """Without a batch_config of its own, the analyzer has its only worker, and its worker's."""
    yaml = BATCH.replace(
        "{callable: any, initialization: {worker_template_name: work}}", "{callable: any}"
    ).replace("{batch_size: 2}", "{cursor_field: row, failure_strategy: isolate}")
    flow = read(yaml)
    await begin_one(conn, flow)
    analyze = await worker.claim_one()
    result = cut("001")
    del result["batch_processing_outcome"]["worker_template_name"]

    await worker.finish(await expanding(conn, flow, analyze, result))

    claim = await worker.claim_one()
    assert claim.name == "work_001"
    assert decode(claim.inputs)["batch_metadata"] == {
        "cursor_field": "row",
        "failure_strategy": "isolate",
    }


async def test_two_analyzers_may_share_a_worker(conn, worker):
    """Batches of different names run beside each other; the same names are refused."""
    yaml = BATCH.replace(
        "  - name: work\n",
        "  - {name: again, type: batchable, handler: {callable: any}}\n  - name: work\n",
    ).replace("dependencies: [analyze]", "dependencies: [analyze, again]")
    flow = read(yaml)
    task = await begin_one(conn, flow)
    analyzers = by_name(await worker.claim())
    await worker.finish(await expanding(conn, flow, analyzers["analyze"], cut("001", "002")))

    with pytest.raises(InvalidExpansion):
        await expanding(conn, flow, analyzers["again"], cut("001"))

    await worker.finish(await expanding(conn, flow, analyzers["again"], cut("003")))
    assert await run_rest(worker) == ["work_001", "work_002", "work_003", "total", "report"]
    assert await state(conn, task) is TaskState.COMPLETE


async def test_a_plan_for_another_number_of_steps_is_refused(conn, worker):
    """Whoever made it: the numbers that it gives would not be free."""
    flow = read(APPROVAL)
    task = await begin_one(conn, flow)
    await worker.run("validate")
    end = await expanding(conn, flow, await worker.claim_one(), chose("manager"))
    facts = decode(end.expansion)

    with pytest.raises(asyncpg.PostgresError) as refused:
        await worker.finish(replace(end, expansion=encode({**facts, "known_steps": 3})))

    assert refused.value.sqlstate == GROWN
    assert set(await states(conn, task)) == {"validate", "route"}


async def test_a_step_whose_number_does_not_fit_is_refused(conn, worker):
    """Whoever calls the function by itself hears it, too, and nothing is added."""
    await begin_one(conn, read(BATCH))
    claim = await worker.claim_one()
    step = {"step_no": 1_048_576, "name": "x", "template_step": "work", "parents": [1]}
    plan = {"known_steps": 1_048_575, "open_gates": [], "steps": [step], "new_children": []}

    with pytest.raises(asyncpg.ProgramLimitExceededError, match="at most 1048575"):
        await worker.finish(
            Finished(claim.task_uuid, 1, 1, encode({}), None, expansion=encode(plan))
        )

    assert await conn.fetchval("select count(*) from tasker.steps") == 1


async def test_decisions_nested_to_the_limit(conn, worker):
    """Twenty decisions in a row run to the end, each created by the one before it."""
    rows = [
        f"  - {{name: d{n}, type: decision, handler: {{callable: x}}, dependencies: [d{n - 1}]}}"
        for n in range(1, 21)
    ]
    flow = read(
        "name: deep\nnamespace_name: shop\nversion: 1.0.0\nsteps:\n"
        "  - {name: d0, handler: {callable: x}}\n" + "\n".join(rows) + "\n"
        "  - {name: end, handler: {callable: x}, dependencies: [d20]}\n"
    )
    task = await begin_one(conn, flow)
    await worker.run("d0")

    for n in range(1, 21):
        claim = await worker.claim_one()
        assert claim.name == f"d{n}"
        following = f"d{n + 1}" if n < 20 else "end"
        await worker.finish(await expanding(conn, flow, claim, chose(following)))

    await worker.run("end")
    assert await state(conn, task) is TaskState.COMPLETE
