"""A plan is made once for each step of a definition."""

from __future__ import annotations

from structlog.testing import capture_logs

from support.flows import CHAIN, ONE, template
from support.workers import registry
from tasker_core.step_handler.functional import depends_on, step_handler
from tasker_core.worker.plan import QUICK_SECONDS, StepPlan


async def nothing(context):
    return {}


async def test_plans_are_made_once(bench):
    """A hundred tasks of one template need three plans."""
    worker = await bench.worker(dict.fromkeys("abc", nothing))
    flow = template(CHAIN)
    await bench.run(flow)
    made = dict(worker._plans._plans)
    for task in await bench.create(flow, 20):
        assert await bench.settled(task) == "complete"

    assert len(made) == 3
    assert worker._plans._plans == made
    ancestors = {plan.template_step: plan.ancestors() for plan in made.values()}
    assert ancestors == {"a": set(), "b": {"a"}, "c": {"a", "b"}}


async def test_a_misspelled_dependency_is_warned_of(bench):
    """Once, with the step that was probably meant."""

    @step_handler("take_over")
    @depends_on(first="a", other="batch_b", typo="bb")
    def take_over(first, other, typo):
        return {"seen": [first, other, typo]}

    known = registry({"a": nothing, "b": nothing})
    known.register("c", take_over)
    await bench.worker(known)
    with capture_logs() as logs:
        for _ in range(2):
            await bench.run(template(CHAIN))

    warned = [log for log in logs if log["event"] == "unknown_dependency"]
    assert [(log["depends_on"], log["step"], log["meant"]) for log in warned] == [
        ("batch_b", "c", []),
        ("bb", "c", ["b"]),
    ]


async def test_another_registry_makes_other_plans(bench):
    """What `use` brings replaces every plan."""
    worker = await bench.worker({"a": nothing})
    await bench.run(template(ONE))
    (before,) = worker._plans._plans.values()
    worker.use(registry({"a": nothing}))
    await bench.create(template(ONE))
    await bench.run(template(ONE, name="other"))

    assert before not in list(worker._plans._plans.values())


def test_a_handler_is_quick_when_it_was():
    """The time of the last runs decides; before the first run nothing is known."""
    plan = StepPlan(None, "a")
    assert not plan.is_quick
    plan.learn(QUICK_SECONDS / 2)
    assert plan.is_quick
    for _ in range(3):
        plan.learn(QUICK_SECONDS * 10)
    assert not plan.is_quick
    for _ in range(40):
        plan.learn(0)
    assert plan.is_quick
