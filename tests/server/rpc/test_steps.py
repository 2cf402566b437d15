"""StepService: read steps, and act on them."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode

from support.flows import CHAIN, Worker, begin_one, template
from support.rpc import RpcClient, details, refusal
from tasker_core.engine.ids import new_task_uuid, step_uuid

NO_RETRY = {"max_attempts": 1}


async def test_steps_are_read_with_results_and_history(
    conn: Any, rpc: RpcClient, worker: Worker
) -> None:
    """One, all, and what happened to one."""
    task = await begin_one(conn, template(CHAIN))
    await worker.succeed(await worker.claim_one(), result={"n": 1, "list": [True]})
    ids = {"task_uuid": str(task), "step_uuid": str(step_uuid(task, 1))}

    one = await rpc.call("StepService/GetStep", **ids)
    every = await rpc.call("StepService/ListSteps", task_uuid=str(task))
    audit = await rpc.call("StepService/GetStepAudit", **ids)

    assert one["step"]["results"]["result"] == {"n": 1, "list": [True]}
    assert one["step"]["current_state"] == "STEP_STATE_COMPLETE"
    assert [step["name"] for step in every["steps"]] == ["a", "b", "c"]
    assert every["steps"][0] == one["step"]
    assert audit["audit_records"][0]["success"]
    assert audit["audit_records"][0]["attempt"] == 1


async def test_a_failed_step_is_reset_resolved_or_completed(
    conn: Any, rpc: RpcClient, worker: Worker
) -> None:
    """By whom and why is in the records; a completion has a result of any shape."""
    task = await begin_one(conn, template(CHAIN, retry=NO_RETRY))
    by = {"task_uuid": str(task), "performed_by": "ada", "reason": "the bank is back"}

    async def act(step: int, action: str, **more: Any) -> Any:
        kind = f"STEP_MANUAL_ACTION_TYPE_{action}"
        step_id = str(step_uuid(task, step))
        return await rpc.call(
            "StepService/ResolveStep", step_uuid=step_id, action_type=kind, **by, **more
        )

    await worker.fail(await worker.claim_one())
    reset = await act(1, "RESET_FOR_RETRY")
    await worker.fail(await worker.claim_one())
    resolved = await act(1, "RESOLVE_MANUALLY")
    completed = await act(2, "COMPLETE_MANUALLY", result=[1, "x"], metadata={"by": "phone"})

    assert reset["step"]["current_state"] == "STEP_STATE_ENQUEUED"
    assert resolved["step"]["current_state"] == "STEP_STATE_RESOLVED_MANUALLY"
    assert completed["step"]["results"]["result"] == [1, "x"]
    assert completed["step"]["results"]["metadata"]["completed_by"] == "ada"
    error = await refusal(act(1, "RESET_FOR_RETRY"))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert details(error)["ErrorInfo"] == {
        "reason": "CONFLICT",
        "domain": "tasker",
        "metadata": {"current_state": "resolved_manually"},
    }


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"action_type": 3, "reason": "x", "performed_by": "ada"}, "/completion_data"),
        ({"action_type": 2, "reason": "x"}, "/resolved_by"),
        ({"reason": "x", "performed_by": "ada"}, ""),
    ],
    ids=["no result", "nobody", "no action"],
)
async def test_an_action_must_be_whole(
    conn: Any, rpc: RpcClient, more: dict[str, Any], place: str
) -> None:
    """The place of what is missing is told."""
    task = await begin_one(conn, template(CHAIN))
    ids = {"task_uuid": str(task), "step_uuid": str(step_uuid(task, 1))}

    error = await refusal(rpc.call("StepService/ResolveStep", **ids, **more))

    assert error.code() is StatusCode.INVALID_ARGUMENT
    (violation,) = details(error)["BadRequest"]["field_violations"]
    assert violation.get("field", "") == place


async def test_a_step_of_another_task_is_a_wrong_argument(conn: Any, rpc: RpcClient) -> None:
    """Of a step or a task that is nowhere, that it is not found."""
    flow = template(CHAIN)
    one = await begin_one(conn, flow, context={"n": 1})
    two = await begin_one(conn, flow, context={"n": 2})
    nowhere = new_task_uuid()

    async def code(task: Any, step: Any) -> StatusCode:
        call = rpc.call("StepService/GetStep", task_uuid=str(task), step_uuid=str(step))
        return (await refusal(call)).code()

    assert await code(one, step_uuid(two, 1)) is StatusCode.INVALID_ARGUMENT
    assert await code(one, step_uuid(one, 99)) is StatusCode.NOT_FOUND
    assert await code(nowhere, step_uuid(nowhere, 1)) is StatusCode.NOT_FOUND
    assert await code("x", "y") is StatusCode.INVALID_ARGUMENT
