"""What the end of an attempt adds: branches, batches, checkpoints, events."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from support.workers import eventually, registry
from tasker_core.domain_events import BaseSubscriber, SubscriberRegistry
from tasker_core.handlers.current import current_step
from tasker_core.handlers.decision import DecisionHandler
from tasker_core.handlers.result import StepHandlerResult
from tasker_core.step_handler.functional import (
    BatchConfig,
    Decision,
    batch_analyzer,
    batch_worker,
    decision_handler,
    depends_on,
    inputs,
)
from tasker_core.templates.load import parse_template

APPROVAL = """
name: approval
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - {name: validate, handler: {callable: validate}}
  - {name: route, type: decision, handler: {callable: route}, dependencies: [validate]}
  - {name: automatic, handler: {callable: approve}, dependencies: [route]}
  - {name: manager, handler: {callable: approve}, dependencies: [route]}
  - {name: finance, handler: {callable: approve}, dependencies: [route]}
  - name: finalize
    type: deferred_convergence
    handler: {callable: finalize}
    dependencies: [automatic, manager, finance]
"""

BATCH = """
name: rows
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: analyze
    type: batchable
    handler: {callable: analyze, initialization: {worker_template_name: work}}
  - name: work
    type: batch_worker
    handler: {callable: work}
    dependencies: [analyze]
    batch_config: {batch_size: 200}
    retry: {max_attempts: 3, backoff: none}
  - {name: total, type: deferred_convergence, handler: {callable: total}, dependencies: [work]}
  - {name: report, handler: {callable: report}, dependencies: [total]}
"""


def read(yaml):
    report = parse_template(yaml)
    assert report.template is not None, report.findings
    return report.template


def approval_handlers(route):
    made = registry(
        {
            "validate": lambda context: {"amount": context.get_input("amount")},
            "approve": lambda context: {"by": context.step_name},
            "finalize": lambda context: {
                "approved_by": sorted(
                    context.get_dependency_result(name)["by"]
                    for name in ("automatic", "manager", "finance")
                    if context.get_dependency_result(name)
                )
            },
        }
    )
    made.register("route", route)
    return made


TWO = """
name: two
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - {name: start, handler: {callable: start}}
  - {name: left, type: decision, handler: {callable: choose}, dependencies: [start]}
  - {name: right, type: decision, handler: {callable: choose}, dependencies: [start]}
  - {name: left_work, handler: {callable: start}, dependencies: [left]}
  - {name: right_work, handler: {callable: start}, dependencies: [right]}
"""


async def test_two_decisions_may_end_in_one_call(bench):
    """Each is planned for the task as the other left it."""
    both = asyncio.Barrier(2)

    class Choose(DecisionHandler):
        handler_name = "choose"

        async def call(self, context):
            await both.wait()  # so that their results go together
            return self.decision_success([f"{context.step_name}_work"])

    handlers = registry({"start": lambda context: {}})
    handlers.register("choose", Choose)
    await bench.worker(handlers)

    state, task = await bench.run(read(TWO))

    assert state == "complete"
    assert await bench.result(task, "left_work") == {}
    assert await bench.result(task, "right_work") == {}


class RouteByAmount(DecisionHandler):
    handler_name = "route"

    def call(self, context):
        amount = context.get_dependency_field("validate", "amount")
        if amount < 0:
            return self.skip_branches("nothing to approve")
        if amount < 1000:
            return self.decision_success(["automatic"])
        return self.decision_success(["manager"] if amount < 5000 else ["manager", "finance"])


@decision_handler("route")
@depends_on(validate="validate")
async def route_by_amount(validate):
    return Decision.route(["automatic"] if validate["amount"] < 1000 else ["manager"])


async def test_a_decision_routes_by_what_it_finds(bench):
    """Only the chosen branches run, and the convergence sees exactly their results."""
    await bench.worker(approval_handlers(RouteByAmount))
    flow = read(APPROVAL)

    for amount, approvers in (
        (999, ["automatic"]),
        (1000, ["manager"]),
        (5000, ["finance", "manager"]),
    ):
        state, task = await bench.run(flow, context={"amount": amount})
        assert state == "complete"
        assert (await bench.result(task, "finalize"))["approved_by"] == approvers


async def test_a_decision_may_take_no_branch(bench):
    """The task completes with the steps that it has."""
    await bench.worker(approval_handlers(RouteByAmount))

    state, task = await bench.run(read(APPROVAL), context={"amount": -1})

    assert state == "complete"
    assert await bench.result(task, "finalize") is None


async def test_a_decision_may_be_an_async_function(bench):
    """The functional style goes the same way."""
    await bench.worker(approval_handlers(route_by_amount))

    state, task = await bench.run(read(APPROVAL), context={"amount": 10})

    assert state == "complete"
    assert (await bench.result(task, "finalize"))["approved_by"] == ["automatic"]


async def test_a_decision_that_adds_many_steps_is_warned_of_once(bench):
    """Fifty of a hundred: the log names the step and its template; one more fails."""
    many = [f"b{n}" for n in range(101)]
    branches = "".join(
        f"  - {{name: {name}, handler: {{callable: approve}}, dependencies: [route]}}\n"
        for name in many
    )
    flow = read(APPROVAL.replace("  - name: finalize\n", branches + "  - name: finalize\n"))
    counts = iter([100, 60, 101])

    @decision_handler("route")
    def route(context):
        return Decision.route(many[: next(counts)])

    await bench.worker(approval_handlers(route))
    with capture_logs() as logs:
        for _ in range(2):
            assert (await bench.run(flow))[0] == "complete"

    (told,) = [one for one in logs if one["event"] == "near_limit"]
    assert (told["step"], told["template"]) == ("route", "shop/approval 1.0.0")
    assert told["warning"] == "added 100 steps, of 100 that it may"
    state, task = await bench.run(flow)
    assert state == "blocked_by_failures"
    (failure,) = (past["error"] for past in await bench.attempts(task, "route"))
    assert (failure["error_type"], failure["retryable"]) == ("decision_point_error", False)


async def test_a_decision_for_a_step_that_is_not_below_it_fails(bench):
    """The step fails for good with the reason, and the task is blocked."""

    class Lost(DecisionHandler):
        handler_name = "route"

        def call(self, context):
            return self.decision_success(["validate"])

    await bench.worker(approval_handlers(Lost))

    state, task = await bench.run(read(APPROVAL), context={"amount": 1})

    assert state == "blocked_by_failures"
    (attempt,) = await bench.attempts(task, "route")
    assert attempt["error"]["error_type"] == "decision_point_error"
    assert "it leads to: automatic, manager, finance" in attempt["error"]["message"]


def batch_handlers(work):
    made = registry(
        {
            "total": lambda context: {
                "sum": sum(
                    result.get("items_processed", 0)
                    for result in context.get_all_dependency_results("work")
                ),
                "workers": len(context.get_all_dependency_results("work")),
            },
            "report": lambda context: {
                "total": context.get_dependency_field("total", "sum"),
                "first": context.get_dependency_result("work_001"),
            },
        }
    )

    @batch_analyzer("analyze", worker_template="work")
    @inputs("rows")
    def analyze(rows):
        return BatchConfig(total_items=rows, batch_size=200)

    made.register("analyze", analyze)
    made.register("work", work)
    return made


@batch_worker("work")
def count_rows(batch_context):
    size = batch_context.end_cursor - batch_context.start_cursor
    return {"items_processed": size, "index": batch_context.batch_index}


async def test_a_thousand_rows_in_five_batches(bench):
    """Five workers, their sum in the convergence, one of them seen from further on."""
    await bench.worker(batch_handlers(count_rows))

    state, task = await bench.run(read(BATCH), context={"rows": 1000})

    assert state == "complete"
    assert await bench.result(task, "total") == {"sum": 1000, "workers": 5}
    report = await bench.result(task, "report")
    assert report["total"] == 1000
    assert report["first"] == {"items_processed": 200, "index": 0}


async def test_many_workers_reach_the_convergence(bench):
    """More parents than come along with a claim: their results are read when asked for."""
    await bench.worker(batch_handlers(count_rows))

    state, task = await bench.run(read(BATCH), context={"rows": 6000})

    assert state == "complete"
    assert await bench.result(task, "total") == {"sum": 6000, "workers": 30}


async def test_nothing_to_do_makes_one_placeholder(bench):
    """Zero rows: one worker that does nothing, and the convergence runs."""
    await bench.worker(batch_handlers(count_rows))

    state, task = await bench.run(read(BATCH), context={"rows": 0})

    assert state == "complete"
    assert (await bench.result(task, "work_000"))["no_op"] is True


async def test_a_worker_goes_on_from_its_checkpoint(bench):
    """A yield is no attempt; a failure goes on from the last checkpoint."""
    failures = []

    @batch_worker("work")
    def by_twenties(batch_context, context):
        done = batch_context.checkpoint_items_processed
        if done == 60 and not failures:
            failures.append(done)
            raise RuntimeError("once")
        done += 20
        if done < 100:
            return batch_context.checkpoint_yield(cursor=done, items_processed=done)
        return {"items_processed": done, "attempt": context.attempt}

    await bench.worker(batch_handlers(by_twenties))

    state, task = await bench.run(read(BATCH), context={"rows": 100})

    assert state == "complete"
    assert await bench.result(task, "work_001") == {"items_processed": 100, "attempt": 2}
    assert await bench.outcomes(task, "work_001") == ["waiting_for_retry", "complete"]
    assert failures == [60]
    kept = (await bench.attempts(task, "work_001"))[-1]["metadata"]["checkpoint"]
    assert (kept["cursor"], kept["items_processed"], "history" in kept) == (80, 80, False)


async def test_an_operator_s_result_of_a_decision_is_followed(bench):
    """Completed by hand, a decision creates its branches too."""
    from support.flows import step_id
    from tasker_core.engine.operate import complete_step
    from tasker_core.engine.register import TemplateShelf

    def broken(context):
        return StepHandlerResult.failure("no", retryable=False)

    handlers = approval_handlers(RouteByAmount)
    handlers.register("route", registry({"route": broken}).get_handler_class("route"))
    await bench.worker(handlers)
    state, task = await bench.run(read(APPROVAL), context={"amount": 1})
    assert state == "blocked_by_failures"

    outcome = {"decision_point_outcome": {"type": "create_steps", "step_names": ["finance"]}}
    await complete_step(
        bench.conn,
        TemplateShelf(),
        task,
        await step_id(bench.conn, task, "route"),
        result=outcome,
        actor="ops",
        reason="decided by hand",
    )

    await eventually(lambda: bench.result(task, "finalize"))
    assert await bench.settled(task) == "complete"
    assert (await bench.result(task, "finalize"))["approved_by"] == ["finance"]


async def test_a_recorded_outcome_is_told_to_subscribers(bench):
    """Only after it is recorded, and only what its condition asks for."""
    heard = []

    class Heard(BaseSubscriber):
        @classmethod
        def subscribes_to(cls):
            return ["order.*"]

        def handle(self, event):
            heard.append((event["event_name"], event["payload"]))

    SubscriberRegistry.reset()
    SubscriberRegistry.instance().register(Heard)
    flow = read("""
name: order
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: take
    handler: {callable: take}
    publishes_events:
      - {name: order.taken, description: d, schema: {type: object}, delivery_mode: fast}
      - name: order.refused
        description: d
        schema: {type: object}
        delivery_mode: fast
        condition: failure
""")
    await bench.worker({"take": lambda context: {"total": 12}})

    await bench.run(flow)

    assert await eventually(lambda: heard) == [("order.taken", {"total": 12})]
    SubscriberRegistry.reset()


async def test_a_handler_s_logs_know_their_step(bench):
    """The step that runs is known to whatever code the handler calls, in every style."""
    seen = {}

    def in_thread(context):
        seen["thread"] = current_step() is context
        return {}

    async def on_loop(context):
        await asyncio.sleep(0)
        seen["loop"] = current_step() is context
        return {}

    def half(context):
        async def rest():
            seen["half"] = current_step() is context
            return {}

        return rest()

    flow = read("""
name: three
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - {name: one, handler: {callable: one}}
  - {name: two, handler: {callable: two}}
  - {name: three, handler: {callable: three}}
""")
    await bench.worker({"one": in_thread, "two": on_loop, "three": half})

    assert (await bench.run(flow))[0] == "complete"
    assert seen == {"thread": True, "loop": True, "half": True}
