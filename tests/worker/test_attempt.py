"""A handler sees where it stands, and how its attempt ends is written down."""

from __future__ import annotations

from support.flows import ONE, template
from support.workers import eventually
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.operate import reset_step


async def test_the_context_says_where_it_stands(bench):
    """Names, ids and the number of the attempt are those of the database."""
    seen = []

    def note(context):
        seen.append(context)

    await bench.worker({"a": note})
    state, task = await bench.run(template(ONE, retry={"max_attempts": 4}), context={"x": 1})

    (context,) = seen
    assert state == "complete"
    assert context.task_uuid == task
    assert context.step_uuid == step_uuid(task, 1)
    assert (context.step_name, context.handler_name) == ("a", "a")
    assert (context.task_name, context.task_version, context.namespace) == ("flow", "1.0.0", "shop")
    assert (context.attempt, context.max_retries, context.is_retry()) == (1, 4, False)
    assert context.input_data == {"x": 1}
    assert context.correlation_id == await bench.conn.fetchval(
        "select correlation_id from tasker.tasks"
    )


async def test_attempts_count_anew_after_a_reset(bench):
    """What an operator forgave is not counted; the attempt in the history goes on."""
    seen = []

    async def fails_at_first(context):
        seen.append((context.attempt, context.is_last_retry()))
        if len(seen) <= 2:
            raise ValueError("not yet")

    await bench.worker({"a": fails_at_first})
    flow = template(ONE, retry={"max_attempts": 2, "backoff": "none"})
    state, task = await bench.run(flow)
    assert state == "blocked_by_failures"
    await reset_step(bench.conn, task, step_uuid(task, 1), actor="me", reason="again")

    await eventually(lambda: bench.conn.fetchval("select state = 'complete' from tasker.tasks"))
    assert seen == [(1, False), (2, True), (1, False)]
    assert [past["attempt"] for past in await bench.attempts(task)] == [1, 2, 3]


async def test_a_handler_gets_its_configuration(bench):
    """`initialization` of the template is the step's configuration, and nobody else's to change."""

    def a(context):
        context.step_config["url"] += "/"
        return {"url": context.step_config["url"]}

    flow = template({"a": []})
    definition = dict(flow.definition)
    step = dict(definition["steps"][0])
    step["handler"] = {"callable": "a", "initialization": {"url": "http://shop"}}
    flow = type(flow).from_definition({**definition, "steps": [step]})
    await bench.worker({"a": a})
    task = await bench.begin(flow)
    (other,) = await bench.create(flow)

    for one in (task, other):
        assert await bench.settled(one) == "complete"
        assert await bench.result(one, "a") == {"url": "http://shop/"}
