"""Add steps at run time: what a decision chose, what a batch is cut into.

The handler has said what it wants. Here that is read, and planned against the steps
that the task has; finish adds them in the transaction that records the result. Should
the task have grown in between, finish refuses, and the plan is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.errors import InvalidExpansion
from tasker_core.payload import encode
from tasker_core.templates.expansion import (
    ExistingStep,
    Expansion,
    expand_batch,
    expand_decision,
)
from tasker_core.templates.model import BatchConfig, StepDefinition, TaskTemplate

EXPANDING_TYPES = frozenset({"decision", "batchable"})
MAX_BYTES = 64 * 1024 * 1024

PLACEHOLDER_ID = "000"


async def plan_expansion(
    conn: Connection, template: TaskTemplate, step: StepDefinition, task_uuid: UUID, result: Any
) -> str | None:
    """Plan what follows from the result of a decision or of a batchable step.

    Returns:
        The expansion for finish_steps, as JSON text; None when nothing is to be added.

    Raises:
        InvalidExpansion: The result does not say what it must, or asks for steps that
            the template does not lead to.
    """
    outcome = _outcome(step, result)
    if outcome is None:
        return None
    rows = await conn.fetch(
        "select step_no, name, coalesce(template_step, name) as template_step "
        "from tasker.steps where task_uuid = $1 order by step_no",
        task_uuid,
    )
    existing = [ExistingStep(**row) for row in rows]
    if step.type == "decision":
        expansion = expand_decision(template, existing, step.name, outcome)
    else:
        worker, instances = outcome
        if any(one.template_step == worker for one in existing):
            return None  # expanded already: an operator completed the step a second time
        expansion = expand_batch(template, existing, step.name, worker, instances)
    return _as_json(expansion)


def _outcome(step: StepDefinition, result: Any) -> Any:
    if step.type == "decision":
        return _chosen_steps(step, result)
    return _batches(step, result)


def _chosen_steps(step: StepDefinition, result: Any) -> Sequence[str] | None:
    outcome = _read(step, result, "decision_point_outcome", ("create_steps", "no_branches"))
    if outcome["type"] == "no_branches":
        return None
    names = outcome.get("step_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidExpansion(
            step.name, "has no list step_names in its outcome", 'write {"step_names": ["…"]}'
        )
    return names or None


def _batches(step: StepDefinition, result: Any) -> tuple[str, dict[str, dict[str, Any]]] | None:
    outcome = _read(step, result, "batch_processing_outcome", ("create_batches", "no_batches"))
    config = step.batch_config or BatchConfig()
    metadata = {
        "cursor_field": config.cursor_field,
        "failure_strategy": config.failure_strategy,
    }
    if outcome["type"] == "no_batches":
        worker = step.handler.initialization.get("worker_template_name") or config.worker_template
        if not worker:
            return None
        cursor = {"batch_id": PLACEHOLDER_ID, "start_cursor": 0, "end_cursor": 0, "batch_size": 0}
        return worker, {PLACEHOLDER_ID: _inputs(cursor, metadata, 0, 1, is_no_op=True)}
    cursors = outcome.get("cursor_configs")
    worker = outcome.get("worker_template_name") or config.worker_template
    if not isinstance(cursors, list) or not cursors or not isinstance(worker, str):
        raise InvalidExpansion(
            step.name,
            "does not say into which batches the work is cut",
            "give worker_template_name and a list cursor_configs that is not empty",
        )
    if outcome.get("worker_count", len(cursors)) != len(cursors):
        raise InvalidExpansion(
            step.name,
            f"says worker_count {outcome['worker_count']} with {len(cursors)} cursor_configs",
            "the two must agree",
        )
    instances: dict[str, dict[str, Any]] = {}
    for index, cursor in enumerate(cursors):
        batch_id = cursor.get("batch_id") if isinstance(cursor, Mapping) else None
        if not isinstance(batch_id, str) or not batch_id or batch_id in instances:
            raise InvalidExpansion(
                step.name,
                f"has batch_id {batch_id!r} at cursor_configs[{index}]",
                "each batch needs a text of its own",
            )
        instances[batch_id] = _inputs(dict(cursor), metadata, index, len(cursors), is_no_op=False)
    return worker, instances


def _inputs(
    cursor: dict[str, Any], metadata: dict[str, Any], index: int, total: int, *, is_no_op: bool
) -> dict[str, Any]:
    return {
        "cursor": cursor,
        "batch_metadata": metadata,
        "batch_index": index,
        "total_batches": total,
        "is_no_op": is_no_op,
    }


def _read(step: StepDefinition, result: Any, key: str, kinds: Sequence[str]) -> Mapping[str, Any]:
    outcome = result.get(key) if isinstance(result, Mapping) else None
    if not isinstance(outcome, Mapping) or outcome.get("type") not in kinds:
        raise InvalidExpansion(
            step.name,
            f"is of type {step.type}, but its result has no {key}",
            f'return {{"{key}": {{"type": "{kinds[0]}", …}}}}, or use the handler base class',
        )
    return outcome


def _as_json(expansion: Expansion) -> str | None:
    if not expansion.steps and not expansion.rewirings:
        return None
    return encode(asdict(expansion), max_bytes=MAX_BYTES)
