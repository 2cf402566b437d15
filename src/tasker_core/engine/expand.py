"""Add steps at run time: what a decision chose, what a batch is cut into.

The handler has said what it wants. Here that is read, and planned against the steps
that the task has; finish adds them in the transaction that records the result. Should
the task have grown in between, finish refuses, and the plan is made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.errors import InvalidExpansion
from tasker_core.payload import decode, encode_known
from tasker_core.templates.expansion import (
    ExistingStep,
    Expansion,
    NewStep,
    expand_batch,
    expand_decision,
    expand_nothing,
)
from tasker_core.templates.fate import GATES, Course
from tasker_core.templates.model import BatchConfig, StepDefinition, TaskTemplate

PLACEHOLDER_ID = "000"

# Planning more steps than this takes tens of milliseconds: other steps run meanwhile.
MANY_STEPS = 1000

_STEPS = """
select
    step_no, name, coalesce(template_step, name) as template_step,
    state not in ('complete', 'resolved_manually') as is_open,
    case
        when state = 'complete' and coalesce(template_step, name) = any ($2)
            then result -> 'decision_point_outcome' -> 'step_names'
    end as chosen
from tasker.steps
where task_uuid = $1
order by step_no
"""


async def plan_expansion(
    conn: Connection,
    template: TaskTemplate,
    step: StepDefinition,
    task_uuid: UUID,
    result: Any,
    *,
    warn: Callable[[str], None] | None = None,
) -> str | None:
    """Plan what follows from the result of a decision or of a batchable step.

    Args:
        result: One that `encode` takes.
        warn: Told what comes near a limit: "added 70 steps, of 100 that it may".

    Returns:
        The expansion for finish_steps, as JSON text; None when nothing is to be added.

    Raises:
        InvalidExpansion: The result does not say what it must, or asks for steps that
            the template does not lead to, or more than the limits allow.
    """
    outcome = _outcome(template, step, result)
    text, warnings = await _planned(conn, template, step, task_uuid, outcome)
    if warn is not None:
        for warning in warnings:
            warn(warning)
    return text


async def plan_resolution(
    conn: Connection, template: TaskTemplate, step: StepDefinition, task_uuid: UUID
) -> str | None:
    """Plan what has waited for a decision or a batchable step that ends without a result."""
    text, _ = await _planned(conn, template, step, task_uuid, None)
    return text


async def _planned(
    conn: Connection, template: TaskTemplate, step: StepDefinition, task_uuid: UUID, outcome: Any
) -> tuple[str | None, Sequence[str]]:
    existing = await _existing(conn, template, task_uuid)
    new_count = len(outcome[1]) if outcome and step.type == "batchable" else 0
    if len(existing) + new_count + len(template.steps) < MANY_STEPS:
        return _expansion(template, existing, step, outcome)
    return await asyncio.to_thread(_expansion, template, existing, step, outcome)


async def read_course(conn: Connection, template: TaskTemplate, task_uuid: UUID) -> Course:
    """See how far a task has come."""
    existing = await _existing(conn, template, task_uuid)
    kinds = {step.template_step: template.step(step.template_step).type for step in existing}
    return Course(
        set(kinds),
        {
            one.template_step
            for one in existing
            if one.is_open and kinds[one.template_step] in GATES
        },
        {
            one.template_step: one.chosen
            for one in existing
            if not one.is_open and kinds[one.template_step] == "decision"
        },
    )


async def _existing(
    conn: Connection, template: TaskTemplate, task_uuid: UUID
) -> list[ExistingStep]:
    decisions = [one.name for one in template.steps if one.type == "decision"]
    return [
        ExistingStep(
            row["step_no"],
            row["name"],
            row["template_step"],
            row["is_open"],
            tuple(decode(row["chosen"]) or ()) if row["chosen"] else (),
        )
        for row in await conn.fetch(_STEPS, task_uuid, decisions)
    ]


def _expansion(
    template: TaskTemplate, existing: Sequence[ExistingStep], step: StepDefinition, outcome: Any
) -> tuple[str | None, Sequence[str]]:
    if outcome is None:
        expansion = expand_nothing(template, existing, step.name)
    elif step.type == "decision":
        expansion = expand_decision(template, existing, step.name, outcome)
    else:
        worker, instances = outcome
        config = _config(template, step, worker)
        expansion = expand_batch(template, existing, step.name, worker, instances, config)
    return _as_json(expansion), expansion.warnings


def _outcome(template: TaskTemplate, step: StepDefinition, result: Any) -> Any:
    if step.type == "decision":
        return _chosen_steps(step, result)
    return _batches(template, step, result)


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


def _batches(
    template: TaskTemplate, step: StepDefinition, result: Any
) -> tuple[str, dict[str, dict[str, Any]]] | None:
    outcome = _read(step, result, "batch_processing_outcome", ("create_batches", "no_batches"))
    own = step.batch_config or BatchConfig()
    named = own.worker_template or step.handler.initialization.get("worker_template_name")
    if outcome["type"] == "no_batches":
        if not named:
            return None
        cursor = {"batch_id": PLACEHOLDER_ID, "start_cursor": 0, "end_cursor": 0, "batch_size": 0}
        metadata = _metadata(template, step, named)
        return named, {PLACEHOLDER_ID: _inputs(cursor, metadata, 0, 1, is_no_op=True)}
    cursors = outcome.get("cursor_configs")
    worker = outcome.get("worker_template_name") or named or _only_worker(template, step)
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
    metadata = _metadata(template, step, worker)
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


def _only_worker(template: TaskTemplate, step: StepDefinition) -> str | None:
    """Name the batch worker below the step, if there is just one."""
    below = [
        one.name
        for one in template.steps
        if one.type == "batch_worker" and step.name in one.dependencies
    ]
    return below[0] if len(below) == 1 else None


def _config(template: TaskTemplate, step: StepDefinition, worker: str) -> BatchConfig:
    """Read how the work is divided: from the batchable step, else from the worker."""
    config = step.batch_config
    if config is None:
        config = next((one.batch_config for one in template.steps if one.name == worker), None)
    return config or BatchConfig()


def _metadata(template: TaskTemplate, step: StepDefinition, worker: str) -> dict[str, Any]:
    config = _config(template, step, worker)
    return {"cursor_field": config.cursor_field, "failure_strategy": config.failure_strategy}


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
    """Write an expansion as expand_task reads it.

    One that adds nothing counts as long as gates are open: should another of them end
    at the same moment, what waits for both would be added by neither.
    """
    if not (expansion.steps or expansion.open_gates):
        return None
    facts = {
        "known_steps": expansion.known_steps,
        "open_gates": expansion.open_gates,
        "steps": [_step(step) for step in expansion.steps],
        "new_children": [
            {"step_no": number, "children": children}
            for number, children in expansion.new_children.items()
        ],
    }
    return encode_known(facts)  # all that comes from outside is a part of the result


def _step(step: NewStep) -> dict[str, Any]:
    place = {} if step.place is None else asdict(step.place)
    return {
        **place,
        "step_no": step.step_no,
        "name": step.name,
        "template_step": step.template_step,
        "parents": step.parents,
        "children": step.children,
        "inputs": step.inputs,
    }
