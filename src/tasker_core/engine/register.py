"""Make a template known.

The template was read and checked. Here it meets the database: its steps are numbered
once, and every task that is created from it copies them. A definition that tasks
have used is never changed under their feet.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from tasker_core.db.asking import Asking, Statement, ask
from tasker_core.db.connect import Connection
from tasker_core.engine.ids import MAX_STEPS, new_uuid
from tasker_core.engine.outbox import lost_events
from tasker_core.errors import InvalidRequest, TemplateChanged, UnknownTemplate
from tasker_core.payload import decode, encode
from tasker_core.templates.graph import initial_steps, version_sort_key
from tasker_core.templates.limits import limits_of
from tasker_core.templates.model import TaskTemplate

MAX_BYTES = 64 * 1024 * 1024  # a hundred times a hundred steps, all joined, are 8 MB


@dataclass(frozen=True, slots=True)
class Registration:
    """What became of a template."""

    template_uuid: UUID
    outcome: Literal["registered", "unchanged"]


async def register_template(
    conn: Connection, template: TaskTemplate, *, force: bool = False
) -> Registration:
    """Register a template, or find that this very definition is registered.

    Args:
        conn: A connection; the registration is one transaction, or part of the caller's.
        template: The checked template.
        force: Put the definition in force although tasks have used its version with
            another one. Tasks that began keep what they began with.

    Raises:
        TemplateChanged: Tasks have used this version with another definition.
        InvalidRequest: The template begins with more steps than a task can number.
    """
    steps = initial_steps(template)
    if len(steps) > MAX_STEPS:
        raise InvalidRequest("steps", len(steps), f"at most {MAX_STEPS}")
    at_first = {step.name for step in steps}
    defined = [template.step(step.name) for step in steps]
    defined += [step for step in template.steps if step.name not in at_first]
    none = ["[]"] * (len(defined) - len(steps))
    limits = limits_of(template)
    row = await conn.fetchrow(
        "select * from tasker.register_template($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "
        "$11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21::json[], $22::json[], "
        "$23::json[])",
        new_uuid(),
        template.namespace,
        template.name,
        template.version,
        version_sort_key(template.version),
        template.digest,
        encode(template.definition, max_bytes=MAX_BYTES),
        template.identity_strategy,
        template.on_failure == "halt",
        None if limits is None else encode(limits),
        force,
        len(steps),
        [step.name for step in defined],
        [step.handler.callable for step in defined],
        [step.handler.method for step in defined],
        [step.handler.resolver or "" for step in defined],
        [step.retry.executions for step in defined],
        [step.retry.backoff for step in defined],
        [step.retry.first_delay_ms for step in defined],
        [step.retry.max_backoff_ms for step in defined],
        [encode(step.parents, max_bytes=MAX_BYTES) for step in steps] + none,
        [encode(step.children, max_bytes=MAX_BYTES) for step in steps] + none,
        [lost_events(step) for step in defined],
    )
    assert row is not None
    if row["outcome"] == "refused":
        raise TemplateChanged(template.namespace, template.name, template.version)
    return Registration(row["template_uuid"], row["outcome"])


@dataclass(frozen=True, slots=True)
class RegisteredTemplate:
    """A definition as the database holds it. Immutable: the id stands for the content."""

    template_uuid: UUID
    template: TaskTemplate


class TemplateShelf:
    """Registered templates, read once and kept: what an id names never changes.

    Threads may share one.
    """

    def __init__(self, size: int = 512) -> None:
        self._by_uuid: dict[UUID, RegisteredTemplate] = {}
        self._size = size
        self._lock = threading.Lock()

    async def find(
        self, conn: Connection, namespace: str, name: str, version: str | None = None
    ) -> RegisteredTemplate:
        """Find the definition in force; without a version, that of the newest version.

        Raises:
            UnknownTemplate: There is none; the error lists what there is.
        """
        return await ask(conn, self.finding(namespace, name, version))

    async def get(self, conn: Connection, template_uuid: UUID) -> RegisteredTemplate:
        """Give the definition with this id, which a task names."""
        return await ask(conn, self.getting(template_uuid))

    def finding(self, namespace: str, name: str, version: str | None) -> Asking[RegisteredTemplate]:
        """Do `find`, on whatever connection."""
        found = yield Statement(
            "select cast(template_uuid as text) from tasker.current_templates "
            "where namespace = $1 and name = $2 and (cast($3 as text) is null or version = $3) "
            "order by version_key desc limit 1",
            (namespace, name, version),
        )
        if not found:
            known = yield from _known(namespace, name)
            raise UnknownTemplate(namespace, name, version, known)
        return (yield from self.getting(UUID(found[0][0])))

    def getting(self, template_uuid: UUID) -> Asking[RegisteredTemplate]:
        """Do `get`, on whatever connection."""
        kept = self._by_uuid.get(template_uuid)
        if kept is not None:
            return kept
        ((text,),) = yield Statement(
            "select cast(definition as text) from tasker.templates "
            "where template_uuid = cast(cast($1 as text) as uuid)",
            (str(template_uuid),),
        )
        return self._keep(template_uuid, TaskTemplate.from_definition(decode(text)))

    def _keep(self, template_uuid: UUID, template: TaskTemplate) -> RegisteredTemplate:
        with self._lock:
            if len(self._by_uuid) >= self._size:
                del self._by_uuid[next(iter(self._by_uuid))]
            kept = self._by_uuid[template_uuid] = RegisteredTemplate(template_uuid, template)
        return kept


def _known(namespace: str, name: str) -> Asking[Sequence[str]]:
    rows = yield Statement(
        "select namespace || '/' || name || ' ' || version as label "
        "from tasker.current_templates where name = $2 or namespace = $1 "
        "order by name <> $2, namespace <> $1, label limit 10",
        (namespace, name),
    )
    return [label for (label,) in rows]
