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
from tasker_core.engine.ids import new_uuid
from tasker_core.engine.outbox import lost_events
from tasker_core.errors import InvalidRequest, TemplateChanged, UnknownTemplate
from tasker_core.payload import decode, encode
from tasker_core.templates.bounds import MAX_STEPS
from tasker_core.templates.environments import in_environment
from tasker_core.templates.graph import initial_steps, version_sort_key
from tasker_core.templates.limits import limits_of
from tasker_core.templates.model import StepDefinition, TaskTemplate

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
    names = [step.name for step in steps]
    names += [step.name for step in template.steps if step.name not in at_first]
    parents, children = [step.parents for step in steps], [step.children for step in steps]
    async with conn.transaction():
        registration = await _register(conn, template, names, parents, children, force=force)
        if registration.outcome == "registered":
            for environment in template.environments:
                await _register_environment(
                    conn, registration.template_uuid, template, environment, names
                )
    return registration


async def _register(
    conn: Connection,
    template: TaskTemplate,
    names: Sequence[str],
    parents: Sequence[Sequence[int]],
    children: Sequence[Sequence[int]],
    *,
    force: bool,
) -> Registration:
    defined = [template.step(name) for name in names]
    none = ["[]"] * (len(names) - len(parents))
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
        len(parents),
        names,
        [step.handler.callable for step in defined],
        [step.handler.method for step in defined],
        [step.handler.resolver or "" for step in defined],
        *_policies(defined),
        [encode(own, max_bytes=MAX_BYTES) for own in parents] + none,
        [encode(own, max_bytes=MAX_BYTES) for own in children] + none,
        [lost_events(step) for step in defined],
    )
    assert row is not None
    if row["outcome"] == "refused":
        raise TemplateChanged(template.namespace, template.name, template.version)
    return Registration(row["template_uuid"], row["outcome"])


async def _register_environment(
    conn: Connection,
    base_uuid: UUID,
    template: TaskTemplate,
    environment: str,
    names: Sequence[str],
) -> None:
    there = in_environment(template, environment)
    await conn.execute(
        "select tasker.register_environment($1, $2, $3, $4, $5, $6, $7, $8)",
        new_uuid(),
        base_uuid,
        environment,
        encode(there.definition, max_bytes=MAX_BYTES),
        *_policies([there.step(name) for name in names]),
    )


def _policies(steps: Sequence[StepDefinition]) -> tuple[list[int], list[str], list[int], list[int]]:
    return (
        [step.retry.executions for step in steps],
        [step.retry.backoff for step in steps],
        [step.retry.first_delay_ms for step in steps],
        [step.retry.max_backoff_ms for step in steps],
    )


@dataclass(frozen=True, slots=True)
class RegisteredTemplate:
    """A definition as the database holds it. Immutable: the id stands for the content."""

    template_uuid: UUID
    template: TaskTemplate


class TemplateShelf:
    """Registered templates, read once and kept: what an id names never changes.

    Threads may share one.

    Args:
        size: How many it keeps.
        environment: Whose overrides hold for what is found; empty: nobody's.
    """

    def __init__(self, size: int = 512, *, environment: str = "") -> None:
        self.environment = environment
        self._by_uuid: dict[UUID, RegisteredTemplate] = {}
        self._size = size
        self._lock = threading.Lock()

    async def find(
        self,
        conn: Connection,
        namespace: str,
        name: str,
        version: str | None = None,
        *,
        environment: str | None = None,
    ) -> RegisteredTemplate:
        """Find the definition in force, with the overrides of an environment in it.

        Args:
            version: None is the newest one.
            environment: None is the shelf's own.

        Raises:
            UnknownTemplate: There is none; the error lists what there is.
        """
        return await ask(conn, self.finding(namespace, name, version, environment))

    async def get(self, conn: Connection, template_uuid: UUID) -> RegisteredTemplate:
        """Give the definition with this id, which a task names."""
        return await ask(conn, self.getting(template_uuid))

    def finding(
        self, namespace: str, name: str, version: str | None, environment: str | None = None
    ) -> Asking[RegisteredTemplate]:
        """Do `find`, on whatever connection."""
        found = yield Statement(
            "select cast(own.template_uuid as text) from tasker.current_templates as base "
            "join tasker.templates as own using (namespace, name, version, digest) "
            "where namespace = $1 and name = $2 and (cast($3 as text) is null or version = $3) "
            "and own.environment in ('', cast($4 as text)) "
            "order by base.version_key desc, own.environment desc limit 1",
            (namespace, name, version, self.environment if environment is None else environment),
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
