"""Tasks are found by what they have in common, page by page."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from support.clock import START
from support.flows import begin, begin_one, template
from tasker_core.engine.operate import cancel_task
from tasker_core.engine.search import ORDERS, Place, TaskFilter, count_tasks, list_tasks
from tasker_core.states import TaskState

pytestmark = pytest.mark.usefixtures("consistent")


async def ids(conn, wanted: TaskFilter, *, limit=100, offset=0) -> list:
    return [task.task_uuid for task in await list_tasks(conn, wanted, limit=limit, offset=offset)]


async def test_tasks_are_listed_youngest_first_and_in_pages(conn):
    """The pages do not overlap, and the total is that of all."""
    tasks = sorted(await begin(conn, template(), 7), reverse=True)
    everything = TaskFilter()

    assert await ids(conn, everything) == tasks
    assert await ids(conn, everything, limit=3) == tasks[:3]
    assert await ids(conn, everything, limit=3, offset=6) == tasks[6:]
    assert await ids(conn, everything, offset=50) == []
    assert await count_tasks(conn, everything) == 7


async def test_each_filter_narrows_the_list(conn, clock):
    """One that everything fits leaves all; several must all fit."""
    correlation = uuid4()
    plain = await begin_one(conn, template(), context={"order": {"lines": [{"sku": "c"}]}})
    await clock.advance(60)
    special = await begin_one(
        conn,
        template(name="other", namespace="bank", version="2.0.0"),
        initiator="ann",
        source_system="web",
        correlation_id=correlation,
        parent_correlation_id=correlation,
        tags=["big", "new"],
        context={"order": {"id": 7, "lines": [{"sku": "a"}, {"sku": "b", "count": 2}]}},
    )
    await cancel_task(conn, plain, actor="ann", reason="-")

    for wanted in (
        {"states": [TaskState.STEPS_IN_PROCESS, TaskState.COMPLETE]},
        {"namespace": "bank"},
        {"name": "other"},
        {"version": "2.0.0"},
        {"initiator": "ann"},
        {"source_system": "web"},
        {"correlation_id": correlation},
        {"parent_correlation_id": correlation},
        {"name_prefix": "ot"},
        {"tags": ["big"]},
        {"tags": ["new", "big"]},
        {"context": '{"order": {"lines": [{"sku": "b"}]}}'},
        {"created_after": START},
        {"namespace": "bank", "name": "other", "initiator": "ann"},
    ):
        assert await ids(conn, TaskFilter(**wanted)) == [special]
        assert await count_tasks(conn, TaskFilter(**wanted)) == 1
    assert await ids(conn, TaskFilter(namespace="bank", initiator="api")) == []
    assert await ids(conn, TaskFilter(states=[TaskState.CANCELLED])) == [plain]
    assert await ids(conn, TaskFilter(created_before=START + timedelta(seconds=1))) == [plain]
    assert await ids(conn, TaskFilter(tags=["big", "old"])) == []
    assert await ids(conn, TaskFilter(namespaces=["bank", "none"])) == [special]
    assert await ids(conn, TaskFilter(namespaces=[])) == []


@pytest.mark.parametrize("order", ORDERS)
async def test_a_page_begins_where_the_last_one_ended(conn, order):
    """Whatever is created between two pages: no task is listed twice, and none is left out."""
    for priority in (0, 5, -5, 5, 0, 5):
        await begin_one(conn, template(), priority=priority)
    whole = await list_tasks(conn, TaskFilter(), limit=100, order=order)

    listed, after = [], None
    while page := await list_tasks(conn, TaskFilter(), limit=2, order=order, after=after):
        listed += [task.task_uuid for task in page]
        after = Place(page[-1].task_uuid, page[-1].priority)
        await begin(conn, template(), 2, priority=100 if order == "-priority" else -100)
        if len(listed) > 20:
            break

    first = [task.task_uuid for task in whole]
    assert [one for one in listed if one in first] == first
    assert len(set(listed)) == len(listed)
