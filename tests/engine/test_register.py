"""A template becomes known; what tasks have used is never changed under their feet."""

from __future__ import annotations

import pytest

from support.flows import CHAIN, ONE, begin_one, names, states, template
from tasker_core.engine.claim import list_lanes
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.inspect import get_task, list_templates
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.errors import TemplateChanged, UnknownTemplate
from tasker_core.states import TaskState

pytestmark = pytest.mark.usefixtures("consistent")


async def test_a_definition_is_registered_once(conn, shelf):
    """The second time it is found, and has the same id."""
    first = await register_template(conn, template())
    second = await register_template(conn, template())

    assert (first.outcome, second.outcome) == ("registered", "unchanged")
    assert second.template_uuid == first.template_uuid
    assert (await shelf.find(conn, "shop", "flow")).template_uuid == first.template_uuid


async def test_a_version_nobody_used_may_be_changed(conn, shelf):
    """While one writes a template, its version need not be raised."""
    await register_template(conn, template(ONE))
    changed = await register_template(conn, template(CHAIN))

    assert changed.outcome == "registered"
    found = await shelf.find(conn, "shop", "flow", "1.0.0")
    assert len(found.template.steps) == 3


async def test_a_version_in_use_is_not_changed(conn, shelf):
    """Another definition under it is refused, and the first stays in force."""
    await begin_one(conn, template(ONE))

    with pytest.raises(TemplateChanged, match="raise its version"):
        await register_template(conn, template(CHAIN))

    assert len((await shelf.find(conn, "shop", "flow")).template.steps) == 1


async def test_a_forced_change_is_in_force_from_then_on(conn, worker):
    """Tasks that began keep their steps and definition; new ones have the new."""
    old = await begin_one(conn, template(ONE))
    forced = await register_template(conn, template(CHAIN), force=True)
    new = await begin_one(conn, template(CHAIN))

    assert (list(await states(conn, old)), list(await states(conn, new))) == (
        ["a"],
        ["a", "b", "c"],
    )
    assert (await get_task(conn, new)).template_uuid == forced.template_uuid
    assert (await get_task(conn, old)).template_uuid != forced.template_uuid
    while claims := await worker.claim():
        await worker.succeed(*claims)
    assert (await get_task(conn, old)).state is TaskState.COMPLETE
    assert (await get_task(conn, new)).state is TaskState.COMPLETE


async def test_a_version_that_any_task_used_is_in_use(conn):
    """Also when the definition of that task is not in force any more."""
    await begin_one(conn, template(ONE))
    await register_template(conn, template(CHAIN), force=True)

    with pytest.raises(TemplateChanged):
        await register_template(conn, template({"x": []}))


async def test_an_earlier_definition_can_be_forced_back(conn, shelf):
    """It has the id it had, and is in force again."""
    first = await register_template(conn, template(ONE))
    await begin_one(conn, template(ONE))
    await register_template(conn, template(CHAIN), force=True)

    again = await register_template(conn, template(ONE), force=True)

    assert again.template_uuid == first.template_uuid
    assert (await shelf.find(conn, "shop", "flow")).template_uuid == first.template_uuid


async def test_without_a_version_the_newest_counts(conn, shelf):
    """Newest as versions go, whenever it was registered; candidates come before releases."""
    for version in ("1.9.0", "1.10.0", "1.10.0-rc.1", "1.2.0"):
        await register_template(conn, template(version=version))

    assert (await shelf.find(conn, "shop", "flow")).template.version == "1.10.0"
    assert (await shelf.find(conn, "shop", "flow", "1.2.0")).template.version == "1.2.0"


async def test_an_unknown_template_is_told_with_what_there_is(conn, shelf):
    """The error lists the versions and neighbours that are registered."""
    await register_template(conn, template(version="1.0.0"))

    with pytest.raises(UnknownTemplate, match=r"no template shop/flow 2\.0\.0.*shop/flow 1\.0\.0"):
        await shelf.find(conn, "shop", "flow", "2.0.0")
    with pytest.raises(UnknownTemplate):
        await shelf.find(conn, "elsewhere", "flow")


async def test_what_an_id_names_is_read_once(conn):
    """The shelf keeps definitions, as many as it has room for, and drops the oldest."""
    shelf = TemplateShelf(size=1)
    one = await register_template(conn, template(name="one"))
    two = await register_template(conn, template(name="two"))

    first = await shelf.get(conn, one.template_uuid)
    assert await shelf.get(conn, one.template_uuid) is first
    await shelf.get(conn, two.template_uuid)
    assert (await shelf.get(conn, one.template_uuid)).template == first.template


async def test_lanes_are_shared_by_steps_that_ask_for_the_same(conn):
    """One namespace and one callable is one lane, in however many templates and steps."""
    same = {"a": "do_it", "b": "do_it", "c": "do_it"}
    await register_template(conn, template(CHAIN, name="one", callables=same))
    await register_template(conn, template(CHAIN, name="two", callables=same))
    await register_template(conn, template(CHAIN, namespace="bank", callables=same))

    lanes = await list_lanes(conn)
    assert sorted((lane.namespace, lane.callable) for lane in lanes) == [
        ("bank", "do_it"),
        ("shop", "do_it"),
    ]
    assert [lane.namespace for lane in await list_lanes(conn, ["bank"])] == ["bank"]


async def test_steps_are_numbered_parents_first(conn, worker):
    """Whatever the order in the file."""
    flow = template({"last": ["first"], "first": []})
    await begin_one(conn, flow)

    claims = await worker.claim()

    assert (names(claims), claims[0].step_no) == (["first"], 1)


# --- environments ------------------------------------------------------------------------


NEW = NewTask(name="flow", namespace="shop")


def in_test(graph=ONE, **override):
    """Build a template that says something of its own for tests."""
    return template(graph, environments={"test": {"steps": [{"name": "ALL", **override}]}})


async def test_the_creators_environment_decides(conn, worker):
    """A task has the overrides of who creates it; one where there are none has none."""
    once = in_test(retry={"max_attempts": 1})
    base = await register_template(conn, once)
    there = await create_task(conn, TemplateShelf(environment="test"), NEW)
    elsewhere = await create_task(conn, TemplateShelf(environment="production"), NEW)

    await worker.fail(*await worker.claim())

    assert (await get_task(conn, there.task_uuid)).state is TaskState.BLOCKED_BY_FAILURES
    assert (await get_task(conn, elsewhere.task_uuid)).state is TaskState.WAITING_FOR_RETRY
    assert elsewhere.template.template_uuid == base.template_uuid
    assert (await get_task(conn, there.task_uuid)).version == "1.0.0"


async def test_what_a_step_is_given_differs(conn):
    """The definition that a task names has the overrides in it, for whoever runs it."""
    await register_template(conn, in_test(handler={"initialization": {"url": "http://mock"}}))

    created = await create_task(conn, TemplateShelf(environment="test"), NEW)

    read = await TemplateShelf().get(conn, created.template.template_uuid)
    assert read.template.step("a").handler.initialization == {"url": "http://mock"}


async def test_a_version_is_listed_once(conn, shelf):
    """However many environments it has; and a shelf without one finds the template itself."""
    base = await register_template(conn, in_test(timeout_seconds=5))

    assert [(one.name, one.version) for one in await list_templates(conn)] == [("flow", "1.0.0")]
    assert (await shelf.find(conn, "shop", "flow")).template_uuid == base.template_uuid


async def test_a_version_used_in_an_environment_is_in_use(conn):
    """A changed override is a changed definition."""
    await register_template(conn, in_test(timeout_seconds=5))
    await create_task(conn, TemplateShelf(environment="test"), NEW)

    with pytest.raises(TemplateChanged):
        await register_template(conn, in_test(timeout_seconds=6))


async def test_the_overrides_in_force_are_those_of_the_definition_in_force(conn):
    """A forced change brings its own, and an earlier one that is forced back has those it had."""
    shelf = TemplateShelf(environment="test")

    async def timeout():
        found = (await shelf.find(conn, "shop", "flow")).template
        return found.step("a").timeout_seconds

    await register_template(conn, in_test(timeout_seconds=5))
    first = await shelf.find(conn, "shop", "flow")
    await create_task(conn, shelf, NEW)
    await register_template(conn, in_test(timeout_seconds=6), force=True)
    assert await timeout() == 6
    await register_template(conn, template(), force=True)
    assert await timeout() is None
    await register_template(conn, in_test(timeout_seconds=5), force=True)
    assert await timeout() == 5
    assert (await shelf.find(conn, "shop", "flow")).template_uuid == first.template_uuid


async def test_plain_sql_says_its_environment(conn):
    """By its argument, else by the setting of the database or the session."""
    await register_template(conn, in_test(retry={"max_attempts": 1}))
    create = "select tasker.create_task('shop', 'flow', '{}')"

    async def attempts(call):
        task = await conn.fetchval(call)
        return await conn.fetchval(
            "select max_attempts from tasker.steps where task_uuid = $1", task
        )

    assert await attempts(create) == 3
    assert await attempts(create[:-1] + ", environment => 'test')") == 1
    await conn.execute("set tasker.environment = 'test'")
    assert await attempts(create) == 1
