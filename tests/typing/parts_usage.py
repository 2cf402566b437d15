"""The parts that larger applications build on, for mypy --strict; nothing here is run."""

from __future__ import annotations

from typing import Any, assert_type

from tasker_core import (
    AuthenticationError,
    AuthorizationError,
    BaseResolver,
    BatchAggregationResult,
    BatchAnalyzerOutcome,
    BusinessLogicError,
    ClassLookupResolver,
    ConfigurationError,
    DecisionMixin,
    DecisionType,
    DefaultPublisher,
    DependencyResultsWrapper,
    DomainEventMetadata,
    ExecutionResult,
    ExplicitMappingResolver,
    FfiStepEvent,
    HandlerDecorator,
    HandlerRegistry,
    HandlerWrapper,
    MethodDispatchWrapper,
    NetworkError,
    NotFoundError,
    PermanentError,
    RateLimitError,
    ResolutionError,
    ResolverChain,
    ResolverNotFoundError,
    ResourceContentionError,
    RetryableError,
    SerializationError,
    ServiceUnavailableError,
    StepContext,
    StepDefinitionWrapper,
    StepEvent,
    StepExecutionError,
    StepHandler,
    StepHandlerResult,
    StepValidationError,
    TaskerError,
    TaskWrapper,
    WorkflowStepWrapper,
    step_handler,
)
from tasker_core.exceptions import TaskerError as SameError
from tasker_core.registry import HandlerDefinition
from tasker_core.testing import (
    Clock,
    MockExhausted,
    NoTestDatabase,
    RunTransition,
    ThrowAwayDatabase,
    run_handler_async,
    run_workflow_async,
)
from tasker_core.types import (
    BatchMetadata,
    BatchProcessingOutcome,
    BatchWorkerInputs,
    CreateBatchesOutcome,
    CursorConfig,
    NoBatchesOutcome,
    RustBatchWorkerInputs,
    RustCursorConfig,
    aggregate_batch_results,
)

# --- errors -----------------------------------------------------------------------------

again: list[RetryableError] = [
    NetworkError("the line is down"),
    RateLimitError("too many", retry_after=30),
    ServiceUnavailableError("closed"),
    ResourceContentionError("locked"),
]
never: list[PermanentError] = [
    StepValidationError("no amount", error_code="NO_AMOUNT"),
    NotFoundError("no such order"),
    AuthenticationError("who is it"),
    AuthorizationError("not allowed"),
    ConfigurationError("no key"),
    BusinessLogicError("sold out"),
]
roots: list[TaskerError] = [*again, *never, StepExecutionError("failed")]
not_storable: type[TaskerError] = SerializationError
same_root: type[TaskerError] = SameError
resolution: type[ResolutionError] = ResolverNotFoundError

# --- handlers and how they are found ----------------------------------------------------

decorate: HandlerDecorator = step_handler("audit")


@decorate
def audit(context: StepContext) -> dict[str, Any]:
    return {"seen": context.step_name}


class Route(DecisionMixin, StepHandler):
    handler_name = "route"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.decision_success(["by_hand"])


class Everywhere(BaseResolver):
    @property
    def name(self) -> str:
        return "everywhere"

    @property
    def priority(self) -> int:
        return 5

    def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
        return definition.callable == "everywhere"

    def resolve(self, definition: HandlerDefinition, config: Any = None) -> Any:
        return MethodDispatchWrapper(Route(), "call")


chain: ResolverChain = HandlerRegistry.instance().resolver_chain
mapping = ExplicitMappingResolver()
mapping.register("route", Route)
resolvers: list[BaseResolver] = [Everywhere(), mapping, ClassLookupResolver()]

# --- what one dispatch of a step looks like ---------------------------------------------

event = StepEvent(
    event_id="1", task_uuid="2", step_uuid="3", correlation_id="4", task_sequence_step={}
)
same_event: type[StepEvent] = FfiStepEvent
assert_type(StepContext.from_event(event, "audit"), StepContext)
definition = StepDefinitionWrapper.from_dict({"name": "audit"})
assert_type(definition.handler, HandlerWrapper)
assert_type(TaskWrapper.from_dict(None).context, dict[str, Any])
assert_type(WorkflowStepWrapper().attempts, int)
assert_type(DependencyResultsWrapper({}).get_results("audit"), Any)

# --- batches, decisions, events ---------------------------------------------------------

assert_type(BatchAnalyzerOutcome.from_ranges([("a", "b")]), BatchAnalyzerOutcome)
assert_type(aggregate_batch_results([{"items_processed": 1}]), BatchAggregationResult)
cursor: type[CursorConfig] = RustCursorConfig
worker_inputs: type[BatchWorkerInputs] = RustBatchWorkerInputs
kind: DecisionType = DecisionType.CREATE_STEPS


def workers(outcome: BatchProcessingOutcome) -> int:
    if isinstance(outcome, NoBatchesOutcome):
        return 0
    assert_type(outcome, CreateBatchesOutcome)
    return outcome.worker_count


def size(metadata: BatchMetadata) -> Any:
    return metadata.cursor_field


class Audited(DefaultPublisher):
    """Says where an event comes from."""


def origin(metadata: DomainEventMetadata, outcome: ExecutionResult) -> str:
    return f"{metadata.fired_by}: {outcome.success}"


# --- tests ------------------------------------------------------------------------------


async def test_in_a_loop(tasker_clock: Clock, tasker_database: ThrowAwayDatabase) -> None:
    tasker_clock.advance(hours=1)
    assert_type(await run_handler_async("audit"), StepHandlerResult)
    try:
        run = await run_workflow_async("order", {"cents": 3})
    except (MockExhausted, NoTestDatabase):
        return
    assert_type(run.transitions, list[RunTransition])
