"""Templates in a line, and workers in the hand of a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from tasker_core.engine import claim as claiming
from tasker_core.engine import finish as finishing
from tasker_core.engine import lease as leasing
from tasker_core.engine.claim import Claim, Work, list_lanes
from tasker_core.engine.create import NewTask, create_tasks
from tasker_core.engine.finish import Finished
from tasker_core.engine.ids import new_uuid
from tasker_core.engine.inspect import get_task, list_steps
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.errors import InvalidTemplate
from tasker_core.payload import encode
from tasker_core.states import StepState, TaskState
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

LEASE = timedelta(seconds=30)

ONE = {"a": []}
CHAIN = {"a": [], "b": ["a"], "c": ["b"]}
DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
WIDE = {"root": [], **{f"leaf_{n}": ["root"] for n in range(8)}, "join": []}
WIDE["join"] = [name for name in WIDE if name.startswith("leaf")]

NO_REST = {"backoff": "none"}


def template(
    graph: Mapping[str, Sequence[str]] = ONE,
    *,
    name: str = "flow",
    namespace: str = "shop",
    version: str = "1.0.0",
    retry: Mapping[str, Any] | None = None,
    retries: Mapping[str, Mapping[str, Any]] | None = None,
    callables: Mapping[str, str] | None = None,
    **keys: Any,
) -> TaskTemplate:
    """Build a checked template from `{step: parents}`.

    Args:
        retry: The retry block of every step.
        retries: Blocks of single steps, by name, in its place.
        callables: Handlers by step; the others are named as their step.
        keys: Further keys of the template, such as `on_failure="continue"`.
    """
    steps = [
        {
            "name": step,
            "handler": {"callable": (callables or {}).get(step, step)},
            "dependencies": list(parents),
            "retry": dict((retries or {}).get(step, retry or {})),
        }
        for step, parents in graph.items()
    ]
    document = {
        "name": name,
        "namespace_name": namespace,
        "version": version,
        "identity_strategy": "always_unique",
        "steps": steps,
        **keys,
    }
    report = parse_template(encode(document))
    if report.template is None:
        raise InvalidTemplate(report.findings)
    return report.template


async def begin(
    conn: asyncpg.Connection, flow: TaskTemplate, count: int = 1, **fields: Any
) -> list[UUID]:
    """Register a template and create tasks from it; gives their ids."""
    await register_template(conn, flow)
    new = NewTask(name=flow.name, namespace=flow.namespace, version=flow.version, **fields)
    created = await create_tasks(conn, TemplateShelf(), [new] * count)
    return [one.task_uuid for one in created]


async def begin_one(conn: asyncpg.Connection, flow: TaskTemplate, **fields: Any) -> UUID:
    """Register a template and create one task from it."""
    (task_uuid,) = await begin(conn, flow, **fields)
    return task_uuid


@dataclass
class Worker:
    """One worker on one connection. It serves every lane, unless told otherwise."""

    conn: asyncpg.Connection
    lanes: Sequence[int] | None = None
    lease: timedelta = LEASE
    uuid: UUID = field(default_factory=new_uuid)

    async def claim(self, limit: int = 100) -> list[Claim]:
        """Claim what is ready."""
        return (await self.look(limit)).claims

    async def look(self, limit: int = 100) -> Work:
        """Claim what is ready, and hear the rest that the answer says."""
        lanes = await self.served()
        return await claiming.claim_steps(
            self.conn, self.uuid, lanes=lanes, limit=limit, lease=self.lease
        )

    async def claim_one(self) -> Claim:
        """Claim the one step that is ready at the moment."""
        (claim,) = await self.claim()
        return claim

    async def finish(self, *ends: Finished, claim: int = 0) -> Work:
        """Record ends of attempts, and claim so many steps more."""
        return await finishing.finish_steps(
            self.conn,
            self.uuid,
            ends,
            lanes=await self.served(),
            limit=claim,
            lease=self.lease,
        )

    async def succeed(self, *claims: Claim, result: Any = None, claim: int = 0) -> Work:
        """Finish these claims with a result, `{"by": name}` when none is given."""
        return await self.finish(
            *(done(one, {"by": one.name} if result is None else result) for one in claims),
            claim=claim,
        )

    async def fail(self, *claims: Claim, retryable: bool = True, claim: int = 0) -> Work:
        """Finish these claims with an error."""
        return await self.finish(*(failed(one, retryable) for one in claims), claim=claim)

    async def give_back(self, *claims: Claim) -> None:
        """Return these claims unused."""
        await leasing.give_back(self.conn, self.uuid, claims)

    async def renew(self, *claims: Claim) -> list[leasing.LostLoan]:
        """Renew these claims; hear which are lost."""
        return await leasing.renew_leases(self.conn, self.uuid, claims, lease=self.lease)

    async def run(self, *names: str) -> None:
        """Claim everything ready, finish the steps of these names, and give the rest back."""
        claims = await self.claim()
        await self.succeed(*(one for one in claims if one.name in names))
        await self.give_back(*(one for one in claims if one.name not in names))

    async def served(self) -> Sequence[int]:
        """Say which lanes it claims from."""
        if self.lanes is not None:
            return self.lanes
        return [lane.lane for lane in await list_lanes(self.conn)]


def done(claim: Claim, result: Any = None) -> Finished:
    """End an attempt well."""
    return Finished(claim.task_uuid, claim.step_no, claim.attempt, encode(result), None)


def failed(
    claim: Claim, retryable: bool = True, *, rest: timedelta | None = None, message: str = "no"
) -> Finished:
    """End an attempt badly."""
    error = encode({"message": message, "error_type": "handler_error", "retryable": retryable})
    return Finished(claim.task_uuid, claim.step_no, claim.attempt, None, error, retryable, rest)


def names(claims: Iterable[Claim]) -> list[str]:
    """Give the names of claimed steps, sorted."""
    return sorted(claim.name for claim in claims)


def by_name(claims: Iterable[Claim]) -> dict[str, Claim]:
    """Find claims by the names of their steps."""
    return {claim.name: claim for claim in claims}


async def states(conn: asyncpg.Connection, task_uuid: UUID) -> dict[str, StepState]:
    """Read the state of every step of a task, by name."""
    return {step.name: step.state for step in await list_steps(conn, task_uuid)}


async def state(conn: asyncpg.Connection, task_uuid: UUID) -> TaskState:
    """Read the state of a task."""
    return (await get_task(conn, task_uuid)).state


async def step_id(conn: asyncpg.Connection, task_uuid: UUID, name: str) -> UUID:
    """Find the id of a step by its name."""
    return next(s.step_uuid for s in await list_steps(conn, task_uuid) if s.name == name)
