"""What a worker knows of a step before it runs it: the handler, the time-out, the ancestors.

A plan is made once for each step of each template definition, and kept: what a
template's id names never changes. Another registry makes other plans.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from uuid import UUID

import structlog

from tasker_core.db.connect import Connection
from tasker_core.engine.claim import Claim
from tasker_core.engine.register import TemplateShelf
from tasker_core.event_rules import is_durable
from tasker_core.handlers.bound import BoundHandler, HandlerDefinition
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.payload import encode
from tasker_core.templates.fate import GATES
from tasker_core.templates.graph import ancestors
from tasker_core.templates.model import EventDeclaration, TaskTemplate
from tasker_core.worker.broken import BROKEN
from tasker_core.worker.results import ResultCheck

QUICK_SECONDS = 0.0005
FEW_ANCESTORS = 256

_log = structlog.get_logger("tasker.worker")


@dataclass(slots=True)
class StepPlan:
    """One step of one template definition, ready to be run many times."""

    handler: BoundHandler | None  # None: this process has no such handler
    callable: str
    timeout: float | None = None  # seconds
    config_text: str | None = None
    template: TaskTemplate | None = None  # None: it cannot be read, see `problem`
    template_step: str = ""
    problem: str | None = None  # why the step cannot even be begun
    usual_seconds: float | None = field(default=None)  # None: it has not run here yet
    parents: frozenset[str] = frozenset()  # by their names in the template
    expands: bool = False  # its result may add steps to the task
    events: tuple[EventDeclaration, ...] = ()  # that it publishes
    is_durable: bool = False  # whether some of them go through the outbox
    result_check: ResultCheck | None = None  # None: results are as they are
    has_warned: bool = False
    _ancestors: frozenset[str] | None = field(default=None)

    @property
    def is_quick(self) -> bool:
        """Whether the handler usually takes less time than handing it to a thread."""
        return self.usual_seconds is not None and self.usual_seconds < QUICK_SECONDS

    def batch_workers(self) -> frozenset[str]:
        """Name the batch workers before this step: each may have run as many steps."""
        if self.template is None:
            return frozenset()
        return frozenset(
            name for name in self.ancestors() if self.template.step(name).type == "batch_worker"
        )

    def warn(self, of: str) -> None:
        """Tell whoever reads the logs that the step comes near a limit, once."""
        if not self.has_warned:
            self.has_warned = True
            label = self.template.label if self.template else None
            _log.warning("near_limit", step=self.template_step, template=label, warning=of)

    def learn(self, seconds: float) -> None:
        """Take one more run into account; a slow one may only have waited for its turn."""
        usual = seconds if self.usual_seconds is None else self.usual_seconds
        self.usual_seconds = usual + (seconds - usual) / (8 if seconds > usual else 2)

    def ancestors(self) -> frozenset[str]:
        """Name every step before this one. Many are counted anew: n steps have n² of them."""
        if self._ancestors is not None:
            return self._ancestors
        if self.template is None:
            return frozenset()
        found = ancestors(self.template, self.template_step)
        if len(found) <= FEW_ANCESTORS:
            self._ancestors = found
        return found


class PlanBook:
    """The plans made so far."""

    def __init__(self, registry: HandlerRegistry, default_timeout: float | None) -> None:
        self.registry = registry
        self._default_timeout = default_timeout
        self._shelf = TemplateShelf()
        self._plans: dict[tuple[UUID, str], StepPlan] = {}

    def known(self, claim: Claim) -> StepPlan | None:
        """Give the plan of a claimed step, if it was made before."""
        return self._plans.get((claim.template_uuid, claim.template_step))

    async def plan(self, conn: Connection, claim: Claim) -> StepPlan:
        """Give the plan of a claimed step; reads its template the first time."""
        plan = self.known(claim)
        if plan is None:
            try:
                plan = await self._make(conn, claim)
            except BROKEN:
                raise
            except Exception as error:  # written by another version, damaged, gone
                _log.exception("plan_failed", template=str(claim.template_uuid), step=claim.name)
                problem = f"the step's template cannot be read: {type(error).__name__}: {error}"
                return StepPlan(None, "", problem=problem)
            if plan.handler is not None:  # else it may yet come
                self._plans[claim.template_uuid, claim.template_step] = plan
        return plan

    def use(self, registry: HandlerRegistry) -> None:
        """Take another registry; what is running goes on with the code it began with."""
        self.registry = registry
        self._plans.clear()

    async def _make(self, conn: Connection, claim: Claim) -> StepPlan:
        template = (await self._shelf.get(conn, claim.template_uuid)).template
        step = template.step(claim.template_step)
        wanted = step.handler
        handler = self.registry.find(
            HandlerDefinition(
                wanted.callable, wanted.method, wanted.resolver, wanted.initialization
            )
        )
        plan = StepPlan(
            handler=handler,
            callable=wanted.callable,
            timeout=step.timeout_seconds or self._default_timeout,
            config_text=encode(wanted.initialization) if wanted.initialization else None,
            template=template,
            template_step=step.name,
            parents=frozenset(step.dependencies),
            expands=step.type in GATES,
            events=step.publishes_events,
            is_durable=any(is_durable(one.delivery_mode) for one in step.publishes_events),
            result_check=ResultCheck.of(template, step),
        )
        _warn_of_strangers(plan)
        return plan


def _warn_of_strangers(plan: StepPlan) -> None:
    """Warn of steps that the handler depends on and that never come before this one.

    It gets None for them. One handler may serve several templates, so it is no error.
    """
    if plan.handler is None or plan.template is None:
        return
    strangers = plan.handler.depends_on - plan.parents
    if not strangers:
        return
    before = plan.ancestors()
    for stranger in sorted(strangers - before):
        if stranger.rstrip("0123456789").rstrip("_") in plan.batch_workers():
            continue
        _log.warning(
            "unknown_dependency",
            handler=plan.handler.name,
            depends_on=stranger,
            step=plan.template_step,
            template=plan.template.label,
            meant=get_close_matches(stranger, before, 1),
            advice="no step of this name comes before it in the template; it gets None",
        )
