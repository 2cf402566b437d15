"""/v1/tasks/{task_uuid}/workflow_steps: read steps, and act on them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from support.flows import CHAIN, Worker, begin_one, step_id, template
from support.replies import refused, wrong
from tasker_core.engine.finish import Finished
from tasker_core.payload import encode

RESET = {"action_type": "reset_for_retry", "reason": "fixed", "reset_by": "ann"}
RESOLVE = {"action_type": "resolve_manually", "reason": "by phone", "resolved_by": "ann"}
COMPLETE = {
    "action_type": "complete_manually",
    "completion_data": {"result": {"total": 7}, "metadata": {"ticket": 12}},
    "reason": "by phone",
    "completed_by": "ann",
}


@pytest.fixture
async def chain(conn: Any) -> UUID:
    """A task of three steps in a row, of which the first is ready."""
    return await begin_one(conn, template(CHAIN))


@pytest.fixture
async def first(conn: Any, chain: UUID) -> str:
    """The path of its first step."""
    return f"/v1/tasks/{chain}/workflow_steps/{await step_id(conn, chain, 'a')}"


# --- read -------------------------------------------------------------------------------


async def test_a_step_that_never_ran_has_no_results(
    api: httpx.AsyncClient, chain: UUID, first: str
) -> None:
    """Everything else is there."""
    step = (await api.get(first)).json()

    assert step.pop("created_at")
    assert step.pop("updated_at")
    assert step == {
        "step_uuid": first.rsplit("/", 1)[1],
        "task_uuid": str(chain),
        "name": "a",
        "completed_at": None,
        "results": None,
        "current_state": "enqueued",
        "dependencies_satisfied": True,
        "retry_eligible": True,
        "ready_for_execution": True,
        "total_parents": 0,
        "completed_parents": 0,
        "attempts": 0,
        "max_attempts": 3,
        "last_failure_at": None,
        "next_retry_at": None,
        "last_attempted_at": None,
    }


async def test_a_success_is_an_execution_result(
    api: httpx.AsyncClient, worker: Worker, first: str
) -> None:
    """The handler's result, and the circumstances of the attempt."""
    claim = await worker.claim_one()
    metadata = {"handler_version": "2", "custom": {"rows": 3}}
    await worker.finish(
        Finished(
            claim.task_uuid, claim.step_no, claim.attempt, '{"by": [1]}', None,
            metadata=encode(metadata),
        )
    )  # fmt: skip
    step = (await api.get(first)).json()
    results = step["results"]

    assert (step["current_state"], step["attempts"]) == ("complete", 1)
    assert (results["success"], results["status"]) == (True, "completed")
    assert (results["result"], results["error"]) == ({"by": [1]}, None)
    assert results["step_uuid"] == step["step_uuid"]
    facts = results["metadata"]
    assert facts["handler_version"] == "2"
    assert (facts["custom"], facts["worker_id"]) == ({"rows": 3}, str(worker.uuid))
    assert facts["completed_at"] == step["completed_at"]
    assert facts["execution_time_ms"] >= 0


async def test_a_failure_is_an_execution_result(
    api: httpx.AsyncClient, worker: Worker, first: str
) -> None:
    """Message, type, code and traceback, one line an item."""
    claim = await worker.claim_one()
    error = {
        "message": "card declined",
        "error_type": "payment_error",
        "error_code": "CARD_DECLINED",
        "retryable": False,
        "traceback": "Traceback:\n  line 1",
    }
    await worker.finish(
        Finished(
            claim.task_uuid, claim.step_no, claim.attempt, None, encode(error), False,
            metadata=encode({"custom": {"status_code": 402}}),
        )
    )  # fmt: skip
    results = (await api.get(first)).json()["results"]

    assert (results["success"], results["status"], results["result"]) == (False, "failed", None)
    assert results["error"] == {
        "message": "card declined",
        "error_type": "payment_error",
        "error_code": "CARD_DECLINED",
        "retryable": False,
        "status_code": 402,
        "backtrace": ["Traceback:", "  line 1"],
        "context": {"status_code": 402},
    }
    assert results["metadata"]["error_type"] == "payment_error"
    assert results["metadata"]["error_code"] == "CARD_DECLINED"
    assert results["metadata"]["retryable"] is False


async def test_steps_come_parents_before_children(api: httpx.AsyncClient, conn: Any) -> None:
    """Whatever the order of the file."""
    task_uuid = await begin_one(conn, template({"z": ["y"], "y": ["x"], "x": []}))
    steps = (await api.get(f"/v1/tasks/{task_uuid}/workflow_steps")).json()

    assert [step["name"] for step in steps] == ["x", "y", "z"]


async def test_a_step_of_another_task_is_404(
    api: httpx.AsyncClient, conn: Any, chain: UUID
) -> None:
    """So are one that does not exist, and the task's own id."""
    other = await begin_one(conn, template(name="other"))
    foreign = await step_id(conn, other, "a")
    for step_uuid in (foreign, uuid4(), chain):
        path = f"/v1/tasks/{chain}/workflow_steps/{step_uuid}"
        refused(await api.get(path), 404, "NOT_FOUND")
        refused(await api.get(f"{path}/audit"), 404, "NOT_FOUND")
        refused(await api.patch(path, json=RESET), 404, "NOT_FOUND")


async def test_a_bad_step_uuid_is_400(api: httpx.AsyncClient, chain: UUID) -> None:
    """With the offending text, on each of its routes."""
    path = f"/v1/tasks/{chain}/workflow_steps/7"
    for reply in (
        await api.get(path),
        await api.get(f"{path}/audit"),
        await api.patch(path, json=RESET),
    ):
        document = refused(reply, 400, "INVALID_UUID")
        assert "step_uuid is '7'" in document["detail"]


# --- act --------------------------------------------------------------------------------


async def test_reset_runs_a_failed_step_again(
    api: httpx.AsyncClient, worker: Worker, chain: UUID, first: str
) -> None:
    """With all its attempts before it; the task goes on."""
    await worker.fail(await worker.claim_one(), retryable=False)
    reply = await api.patch(first, json=RESET)

    assert reply.status_code == 200
    step = reply.json()
    assert (step["current_state"], step["attempts"]) == ("enqueued", 0)
    assert step["results"]["success"] is False
    assert (await api.get(f"/v1/tasks/{chain}")).json()["status"] == "steps_in_process"


async def test_resolve_settles_without_a_result(
    api: httpx.AsyncClient, worker: Worker, chain: UUID, first: str
) -> None:
    """Its children go on."""
    reply = await api.patch(first, json=RESOLVE)

    assert reply.json()["current_state"] == "resolved_manually"
    assert reply.json()["results"] is None
    assert (await worker.claim_one()).name == "b"
    task = (await api.get(f"/v1/tasks/{chain}")).json()
    assert task["completed_steps"] == 1


async def test_complete_stores_the_operators_result(
    api: httpx.AsyncClient, worker: Worker, first: str, chain: UUID
) -> None:
    """Children get it as if a handler had returned it, and readers see whose it is."""
    reply = await api.patch(first, json=COMPLETE)
    results = reply.json()["results"]

    assert (results["success"], results["status"], results["error"]) == (True, "completed", None)
    assert results["result"] == {"total": 7}
    assert results["metadata"]["manually_completed"] is True
    assert results["metadata"]["completed_by"] == "ann"
    assert results["metadata"]["completion_reason"] == "by phone"
    assert (await worker.claim_one()).parent_results == '{ "a" : {"total":7} }'
    listed = (await api.get(f"/v1/tasks/{chain}/workflow_steps")).json()
    assert listed[0]["results"] == results


async def test_a_running_step_is_settled_only_with_force(
    api: httpx.AsyncClient, worker: Worker, first: str
) -> None:
    """409 names the state; with force it is done, and the worker's result is refused."""
    claim = await worker.claim_one()
    document = refused(await api.patch(first, json=COMPLETE), 409, "CONFLICT")
    forced = await api.patch(first, json={**COMPLETE, "force": True})
    late = await worker.succeed(claim)

    assert document["current_state"] == "in_progress"
    assert forced.json()["current_state"] == "complete"
    assert forced.json()["results"]["result"] == {"total": 7}
    assert forced.json()["results"]["metadata"]["completed_by"] == "ann"
    assert len(late.refusals) == 1


@pytest.mark.parametrize("action", [RESET, RESOLVE, COMPLETE])
async def test_a_step_that_ended_is_left_alone(
    api: httpx.AsyncClient, worker: Worker, first: str, action: dict[str, Any]
) -> None:
    """Even with force."""
    await worker.succeed(await worker.claim_one())
    document = refused(await api.patch(first, json={**action, "force": True}), 409, "CONFLICT")

    assert document["current_state"] == "complete"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, [""]),
        ([], [""]),
        ({"action_type": "explode"}, [""]),
        ({"action_type": "reset_for_retry"}, ["/reason", "/reset_by"]),
        ({**RESET, "reason": ""}, ["/reason"]),
        ({**RESET, "reset_by": None}, ["/reset_by"]),
        ({**RESOLVE, "resolved_by": "a\x00"}, ["/resolved_by"]),
        ({**COMPLETE, "completion_data": {}}, ["/completion_data/result"]),
        ({**COMPLETE, "completion_data": {"result": {"a": "\x00"}}}, ["/completion_data/result/a"]),
        (
            {**COMPLETE, "completion_data": {"result": 1, "metadata": ["\x00"]}},
            ["/completion_data/metadata/0"],
        ),
    ],
)
async def test_a_wrong_action_is_422(
    api: httpx.AsyncClient, first: str, body: Any, pointers: list[str]
) -> None:
    """Each wrong member with its pointer, and nothing is done."""
    reply = await api.patch(first, json=body)

    refused(reply, 422, "VALIDATION_ERROR")
    assert [pointer for pointer, _ in wrong(reply)] == pointers
    assert (await api.get(first)).json()["current_state"] == "enqueued"


# --- history ----------------------------------------------------------------------------


async def test_audit_lists_attempts_and_operators_newest_first(
    api: httpx.AsyncClient, worker: Worker, first: str
) -> None:
    """What does not apply is left out; ids stay the same from one look to the next."""
    await worker.fail(await worker.claim_one(), retryable=False)
    await api.patch(first, json=RESET)
    await worker.succeed(await worker.claim_one())
    audit = (await api.get(f"{first}/audit")).json()

    assert [(one["kind"], one["to_state"], one["success"]) for one in audit] == [
        ("worker_result", "complete", True),
        ("operator_action", "pending", True),
        ("worker_result", "error", False),
    ]
    success, reset, failure = audit
    assert (reset["action"], reset["actor"], reset["reason"]) == ("reset", "ann", "fixed")
    assert "worker_uuid" not in reset
    assert success["result"]["result"] == {"by": "a"}
    assert failure["result"]["error"]["message"] == "no"
    assert (success["attempt"], failure["attempt"]) == (2, 1)
    assert {one["step_name"] for one in audit} == {"a"}
    assert (await api.get(f"{first}/audit")).json() == audit


async def test_a_step_without_history_has_an_empty_audit(
    api: httpx.AsyncClient, first: str
) -> None:
    """Not a 404."""
    assert (await api.get(f"{first}/audit")).json() == []
