"""Templates that publish events, and what is in the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg

from support.flows import ONE, done, failed, template
from tasker_core.engine.claim import Claim
from tasker_core.engine.finish import Finished
from tasker_core.engine.ids import step_uuid
from tasker_core.event_rules import event_uuid
from tasker_core.payload import encode
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

CONDITIONS = ("success", "failure", "retryable_failure", "permanent_failure", "always")


def publishing(
    *events: str | Mapping[str, Any],
    steps: Mapping[str, list[str]] = ONE,
    retry: Mapping[str, Any] | None = None,
    **keys: Any,
) -> TaskTemplate:
    """Build a template of which each step declares these events: "name condition", or a block."""
    document = dict(template(steps, retry=retry, **keys).definition)
    declared = [
        one
        if isinstance(one, Mapping)
        else dict(zip(("name", "condition"), one.split(), strict=False))
        for one in events
    ]
    for step in document["steps"]:
        step["publishes_events"] = [
            {"description": "d", "schema": {"type": "object"}, **one} for one in declared
        ]
    return read(document)


def read(document: Mapping[str, Any]) -> TaskTemplate:
    """Read a template from its document."""
    report = parse_template(encode(document))
    assert report.template is not None, report.findings
    return report.template


def ends(claim: Claim, end: str) -> Finished:
    """End an attempt: "done", "again" (it may be retried) or "failed"."""
    return done(claim, {}) if end == "done" else failed(claim, retryable=end == "again")


def telling(end: Finished, *conditions: str, name: str = "order.{}") -> Finished:
    """Add a candidate event for each condition, named by it."""
    told = []
    for condition in conditions:
        called = name.format(condition)
        own_id = event_uuid(step_uuid(end.task_uuid, end.step_no), end.attempt, called)
        event = {"event_id": own_id, "event_name": called, "metadata": {"correlation_id": own_id}}
        told.append({"condition": condition, "event": event})
    return replace(end, events=encode(told))


async def outbox(conn: asyncpg.Connection, task_uuid: UUID | None = None) -> list[asyncpg.Record]:
    """Read the outbox in its order."""
    return await conn.fetch(
        "select * from tasker.outbox where $1::uuid is null or task_uuid = $1 "
        "order by task_uuid, event_no",
        task_uuid,
    )


async def told(conn: asyncpg.Connection, task_uuid: UUID | None = None) -> list[str]:
    """Read the names of the events in the outbox, in its order."""
    return [row["name"] for row in await outbox(conn, task_uuid)]
