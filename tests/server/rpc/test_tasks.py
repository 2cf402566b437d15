"""TaskService: create, read, list, cancel and follow tasks."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode

from support.clock import installed
from support.flows import CHAIN, ONE, Worker, begin_one, template
from support.rpc import RpcClient, details, refusal, told
from support.workers import eventually
from tasker_core.engine import inspect, operate
from tasker_core.engine.register import register_template
from tasker_core.engine.sweep import sweep
from tasker_core.server.run import Server


async def test_a_task_is_created_with_every_field(conn: Any, rpc: RpcClient) -> None:
    """What was asked for is what is there; whole numbers are integers again."""
    await register_template(conn, template(ONE))
    ours, parent = str(uuid4()), str(uuid4())

    reply = await rpc.call(
        "TaskService/CreateTask",
        name="flow",
        namespace="shop",
        version="1.0.0",
        context={"order": 17, "price": 9.5, "lines": [{"sku": "a", "gift": None}], "once": True},
        correlation_id=ours,
        parent_correlation_id=parent,
        initiator="ada",
        source_system="till",
        reason="sold",
        priority=-7,
        tags=["big", "red"],
        idempotency_key="order-17",
        options={"fast": True},
    )

    task = await inspect.get_task(conn, reply["task"]["task_uuid"])
    assert task.context == {
        "order": 17,
        "price": 9.5,
        "lines": [{"sku": "a", "gift": None}],
        "once": True,
    }
    assert isinstance(task.context["order"], int)
    assert (str(task.correlation_id), str(task.parent_correlation_id)) == (ours, parent)
    assert (task.initiator, task.source_system, task.reason) == ("ada", "till", "sold")
    assert (task.priority, list(task.tags)) == (-7, ["big", "red"])
    assert reply["task"]["status"] == "TASK_STATE_STEPS_IN_PROCESS"
    assert reply["task"]["total_steps"] == 1
    again = await refusal(
        rpc.call(
            "TaskService/CreateTask", name="flow", namespace="shop", idempotency_key="order-17"
        )
    )
    assert again.code() is StatusCode.ALREADY_EXISTS
    assert again.details().startswith("CONFLICT: ")


async def test_a_call_that_is_sent_again_gets_the_task_that_exists(
    conn: Any, rpc: RpcClient
) -> None:
    """With the metadata that stands for the header of HTTP."""
    await register_template(conn, template(ONE))
    key = {"idempotency-key": "k1"}
    asked: dict[str, Any] = {"name": "flow", "namespace": "shop"}

    first = await rpc.call("TaskService/CreateTask", key, **asked)
    second = await rpc.call("TaskService/CreateTask", key, **asked)

    assert second["task"]["task_uuid"] == first["task"]["task_uuid"]
    assert (first.get("replayed"), second.get("replayed")) == (None, True)


async def test_a_task_is_read_with_what_is_asked_for(
    conn: Any, rpc: RpcClient, worker: Worker
) -> None:
    """Steps and context come when they are wanted; results of any shape are kept."""
    task = await begin_one(conn, template(CHAIN), context={"n": 1})
    await worker.succeed(await worker.claim_one(), result=[1, "two", None])

    bare = await rpc.call("TaskService/GetTask", task_uuid=str(task))
    whole = await rpc.call(
        "TaskService/GetTask", task_uuid=str(task), include_steps=True, include_context=True
    )
    context = await rpc.call("TaskService/GetTaskContext", task_uuid=str(task))
    summary = await rpc.call("TaskService/GetTaskSummary", task_uuid=str(task))

    assert set(bare) == {"task"}
    assert {one["name"]: one["current_state"] for one in whole["steps"]} == {
        "a": "STEP_STATE_COMPLETE",
        "b": "STEP_STATE_ENQUEUED",
        "c": "STEP_STATE_PENDING",
    }
    assert whole["context"] == context["context"]
    assert context["context"]["outputs"] == {"a": [1, "two", None]}
    assert context["context"]["inputs"] == {"n": 1}
    assert summary["summary"]["task"]["completed_steps"] == 1
    assert [one["name"] for one in summary["summary"]["steps"]] == ["a", "b", "c"]


async def test_lists_have_pages_and_filters(conn: Any, rpc: RpcClient) -> None:
    """Any offset will do; each filter leaves out what does not fit."""
    ids = [
        str(await begin_one(conn, template(ONE), tags=[f"t{n % 2}"], context={"n": n}))
        for n in range(5)
    ]
    await operate.cancel_task(conn, UUID(ids[4]), actor="ada", reason="x")

    async def listed(**asked: Any) -> list[str]:
        reply = await rpc.call("TaskService/ListTasks", **asked)
        return [one["task_uuid"] for one in reply.get("tasks", [])]

    page = await rpc.call("TaskService/ListTasks", pagination={"limit": 2, "offset": 1})
    assert [one["task_uuid"] for one in page["tasks"]] == [ids[3], ids[2]]
    assert page["pagination"] == {"total": "5", "count": 2, "offset": "1", "has_more": True}
    last = await rpc.call("TaskService/ListTasks", pagination={"limit": 2, "offset": 4})
    assert last["pagination"] == {"total": "5", "count": 1, "offset": "4"}
    assert await listed(states=["TASK_STATE_CANCELLED", "TASK_STATE_ERROR"]) == [ids[4]]
    assert await listed(active=True, sort="created_at") == ids[:4]
    assert await listed(tags=["t1"], namespace="shop") == [ids[3], ids[1]]
    assert await listed(context={"n": 2}) == [ids[2]]
    assert await listed(namespace="bank") == []
    assert await listed(name_prefix="fl", version="1.0.0", name="flow") == ids[::-1]
    assert await listed(initiator="nobody") == []
    assert await listed(created_after="2099-01-01T00:00:00Z") == []
    assert len(await listed(created_before="2099-01-01T00:00:00Z")) == 5


async def test_a_task_that_has_ended_is_not_cancelled(
    conn: Any, rpc: RpcClient, worker: Worker
) -> None:
    """Which is an answer, and no error; to cancel twice is no error either."""
    one = await begin_one(conn, template(ONE), context={"n": 1})
    await worker.succeed(await worker.claim_one())
    two = await begin_one(conn, template(ONE), context={"n": 2})

    refused = await rpc.call("TaskService/CancelTask", task_uuid=str(one))
    first = await rpc.call("TaskService/CancelTask", task_uuid=str(two), reason="ordered twice")
    second = await rpc.call("TaskService/CancelTask", task_uuid=str(two))

    assert not refused.get("success", False)
    assert "complete" in refused["message"]
    assert refused["task"]["status"] == "TASK_STATE_COMPLETE"
    assert first["success"]
    assert second["success"]
    assert second["task"]["status"] == "TASK_STATE_CANCELLED"
    moves = await inspect.list_transitions(conn, two)
    assert "ordered twice" in {move.reason for move in moves}


async def test_a_stream_tells_until_the_task_has_ended(
    conn: Any, rpc: RpcClient, worker: Worker
) -> None:
    """How it stands, each step, the end; and after an id only what came later."""
    task = str(await begin_one(conn, template({"a": [], "b": ["a"]})))
    stream = rpc.stream("TaskService/StreamTaskStatus", task_uuid=task, include_steps=True)
    updates = told(stream)
    first = await anext(updates)
    for _ in "ab":
        await worker.succeed(await worker.claim_one())
    rest = [one async for one in updates]

    assert first["update_type"] == "task.snapshot"
    assert [one["name"] for one in first["steps"]] == ["a", "b"]
    assert first["task"]["task_uuid"] == task
    steps = [one["step_update"] for one in rest if "step_update" in one]
    assert ("b", "STEP_STATE_COMPLETE") in [(one["name"], one["to_state"]) for one in steps]
    assert rest[-1]["update_type"] == "task.finished"
    assert rest[-1]["task_state"] == "TASK_STATE_COMPLETE"
    assert await stream.code() is StatusCode.OK
    after = rpc.stream(
        "TaskService/StreamTaskStatus",
        task_uuid=task,
        include_steps=True,
        since=rest[-2]["event_id"],
    )
    assert [one async for one in told(after)] == rest[-1:]
    nothing = rpc.stream("TaskService/StreamTaskStatus", task_uuid=task, since=rest[-1]["event_id"])
    assert [one async for one in told(nothing)] == []


@pytest.mark.parametrize("end", ["cancelled", "error", "resolved_manually"])
async def test_a_stream_ends_in_every_terminal_state(
    conn: Any, server: Server, rpc: RpcClient, worker: Worker, end: str
) -> None:
    """Not only when the task is complete."""
    flow = template(ONE, give_up_after=60, retry={"max_attempts": 1})
    task = await begin_one(conn, flow)
    stream = rpc.stream("TaskService/StreamTaskStatus", task_uuid=str(task))
    updates = told(stream)
    await anext(updates)
    if end == "cancelled":
        await operate.cancel_task(conn, task, actor="ada", reason="x")
    elif end == "resolved_manually":
        await operate.resolve_task(conn, task, actor="ada", reason="x")
    else:
        await worker.fail(await worker.claim_one())
        async with installed(server.app.state.backend.settings.database_url) as clock:
            await clock.advance(61)
            await sweep(conn)

    states = [one["task_state"] async for one in updates]
    assert states[-1] == f"TASK_STATE_{end.upper()}"
    assert await stream.code() is StatusCode.OK


async def test_a_reader_that_leaves_is_not_followed_on(
    conn: Any, rpc: RpcClient, server: Server
) -> None:
    """Its stream is closed here, too, so that another may be opened."""
    task = str(await begin_one(conn, template(ONE)))
    streams = server.app.state.backend.streams
    stream = rpc.stream("TaskService/StreamTaskStatus", task_uuid=task)
    await anext(told(stream))
    assert streams._open

    stream.cancel()

    await eventually(lambda: not streams._open)


async def test_a_server_that_stops_says_so_in_its_streams(
    conn: Any, rpc: RpcClient, server: Server
) -> None:
    """The reader may go on elsewhere, and is told when."""
    task = str(await begin_one(conn, template(ONE)))
    stream = rpc.stream("TaskService/StreamTaskStatus", task_uuid=task)
    updates = told(stream)
    await anext(updates)
    stopping = asyncio.create_task(server.stop())

    error = await refusal(anext(updates))
    await stopping

    assert error.code() is StatusCode.UNAVAILABLE
    assert details(error)["ErrorInfo"]["reason"] == "SERVICE_UNAVAILABLE"
    assert details(error)["RetryInfo"]["retry_delay"] == "1s"
