"""API handlers, decisions, batches and events as users write them, for mypy --strict.

Nothing here is run. Every line that mypy could object to is a promise about the
public types.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, assert_type
from uuid import UUID, uuid4

import httpx

from tasker_core import (
    APIMixin,
    BasePublisher,
    BaseSubscriber,
    Batchable,
    BatchableMixin,
    BatchConfig,
    CursorConfig,
    Decision,
    DecisionHandler,
    DecisionPointOutcome,
    ErrorClassifier,
    EventBus,
    EventDeclaration,
    FailureStrategy,
    HandlerDiscovery,
    LogContext,
    PublisherRegistry,
    ResultStatus,
    StepContext,
    StepError,
    StepExecutionResult,
    StepHandler,
    StepHandlerResult,
    SubscriberRegistry,
    TaskSequenceStepWrapper,
    TemplateParser,
    TemplatePath,
    aggregate_batch_results,
    api_handler,
    batch_analyzer,
    batch_worker,
    decision_handler,
    inputs,
    is_permanent,
    is_retryable,
    log_info,
)
from tasker_core.batch_processing import BatchAggregationScenario, BatchWorkerConfig
from tasker_core.domain_events import PublishContext, StepEventContext, StepResult
from tasker_core.errors.error_classifier import get_classifier
from tasker_core.handlers.events import publish_step_events
from tasker_core.logging import StepFields, add_step_fields
from tasker_core.step_handler import ApiHandler, ApiResponse
from tasker_core.step_handler import mixins as handler_mixins
from tasker_core.types import (
    BatchWorkerContext,
    BatchWorkerInputs,
    BatchWorkerOutcome,
    ClientTaskResponse,
    InProcessDomainEvent,
    create_batches,
    no_batches,
)

# --- HTTP -----------------------------------------------------------------------------


class FetchUser(APIMixin, StepHandler):
    handler_name = "fetch_user"
    base_url = "https://api.example.com"
    default_timeout = 10.0
    default_headers = {"x-team": "shop"}  # noqa: RUF012 - as users write it

    def call(self, context: StepContext) -> StepHandlerResult:
        try:
            response = self.get("/users", params={"id": context.get_input("id")})
        except httpx.ConnectError as error:
            return self.connection_error(error, "fetching the user")
        except httpx.TimeoutException as error:
            return self.timeout_error(error)
        assert_type(response, ApiResponse)
        assert_type(response.ok, bool)
        assert_type(response.retry_after, int | None)
        assert_type(response.retry_after_seconds, float | None)
        if not response.ok:
            return self.api_failure(response, "no such user")
        print(response["name"], response.json(), response.text, response.to_dict())
        self.post("/seen", json={"id": 1})
        self.put("/seen", data={"id": "1"})
        self.patch("/seen", json=[1], timeout=3)
        self.delete("/seen", params={"id": 1})
        self.request("OPTIONS", "/seen")
        return self.api_success(result={"name": response["name"]})


class FetchLater(StepHandler, handler_mixins.APIMixin):
    async def call(self, context: StepContext) -> StepHandlerResult:
        response = await self.aget("/users")
        await self.apost("/users", json={})
        await self.aclose()
        return self.api_success(response, include_response=False)


class Plain(ApiHandler):
    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success()


FetchUser()._client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
assert_type(Plain().client, httpx.Client)


@api_handler("fetch", base_url="https://api.example.com", timeout=5, default_headers={"a": "b"})
@inputs("user_id")
async def fetch(user_id: int, api: APIMixin) -> StepHandlerResult:
    return api.api_success(await api.aget(f"/users/{user_id}"))


# --- decisions ------------------------------------------------------------------------


class Route(DecisionHandler):
    handler_name = "route"

    def call(self, context: StepContext) -> StepHandlerResult:
        if context.get_input("amount") is None:
            return self.decision_failure("no amount")
        if context.get_input("amount") == 0:
            return self.skip_branches("nothing to pay", {"amount": 0})
        outcome = DecisionPointOutcome.create_steps(["review"], routing_context={"why": "large"})
        return self.decision_success(outcome, metadata={"rule": 7})


@decision_handler("decide")
def decide(context: StepContext) -> Decision | list[str]:
    return Decision.route(["a", "b"], why="large") if context.is_retry() else ["a"]


assert_type(decide(StepContext()), Decision | list[str])


# --- batches --------------------------------------------------------------------------


class Analyze(StepHandler, Batchable):
    def call(self, context: StepContext) -> StepHandlerResult:
        assert_type(self.create_cursor_ranges(10, 2, max_batches=3), list[CursorConfig])
        assert_type(self.create_cursor_configs(10, 3), list[BatchWorkerConfig])
        outcome = self.create_batch_outcome(total_items=10, batch_size=2)
        own = self.create_batch_outcome_from_ranges([("a", "m"), ("m", "z")])
        if not own.cursor_configs:
            return self.no_batches_outcome("empty", {"day": "sunday"})
        return self.batch_analyzer_success(outcome, worker_template_name="work")


class Work(StepHandler, BatchableMixin):
    def call(self, context: StepContext) -> StepHandlerResult:
        no_op = self.handle_no_op_worker(context)
        if no_op is not None:
            return no_op
        batch = self.get_batch_context(context)
        typed = self.get_batch_worker_inputs(context)
        assert_type(batch, BatchWorkerContext | None)
        assert_type(typed, BatchWorkerInputs | None)
        if batch is None or typed is None:
            return self.failure("no batch")
        assert_type(batch.total_batches, int)
        assert_type(batch.batch_size, int)
        if typed.batch_metadata.failure_strategy is FailureStrategy.FAIL_FAST:
            return self.checkpoint_yield(batch.resume_cursor, 3, {"sum": 1})
        if batch.has_checkpoint():
            return self.batch_worker_success(batch, result={"file": "a.csv"})
        outcome = self.create_worker_outcome(5, items_failed=1, errors=["x"])
        if outcome.items_failed:
            return self.batch_worker_partial_failure(outcome)
        return self.batch_worker_success(items_processed=5)


class Total(StepHandler, Batchable):
    def call(self, context: StepContext) -> StepHandlerResult:
        scenario = self.detect_aggregation_scenario(context.dependency_results, "analyze", "work")
        assert_type(scenario, BatchAggregationScenario)
        total = aggregate_batch_results(scenario.batch_results.values())
        assert_type(total.success_rate, float)
        return self.aggregate_batch_worker_results(
            scenario, {"total": 0}, lambda results: {"total": len(results)}
        )


@batch_analyzer("analyze", worker_template="work")
def analyze(context: StepContext) -> BatchConfig:
    return BatchConfig(total_items=10, batch_size=2, metadata={"a": 1})


@batch_worker("work", analyzer_step="analyze")
def work(batch_context: BatchWorkerContext) -> StepHandlerResult | BatchWorkerOutcome:
    if batch_context.is_no_op:
        return BatchWorkerOutcome()
    return batch_context.checkpoint_yield(cursor={"page": 3}, items_processed=3)


assert_type(Work().call(StepContext()).checkpoint, dict[str, Any] | None)
create_batches("work", 1, [CursorConfig(start_cursor="a", end_cursor="z")], 1).model_dump()
no_batches()

# --- events ---------------------------------------------------------------------------


class Receipts(BasePublisher):
    publisher_name = "receipts"

    def should_publish(self, ctx: StepEventContext) -> bool:
        return ctx.namespace == "shop"

    async def transform_payload(self, ctx: StepEventContext) -> dict[str, Any]:
        return {"total": (ctx.result or {})["total"]}


class Mail(BaseSubscriber):
    @classmethod
    def subscribes_to(cls) -> list[str]:
        return ["payment.*"]

    def handle(self, event: dict[str, Any]) -> None:
        print(event["payload"])


PublisherRegistry.instance().register(Receipts())
SubscriberRegistry.instance().register(Mail)
assert_type(SubscriberRegistry.instance().start_all(), int)
declared = EventDeclaration(name="payment.charged", condition="always", schema={"type": "object"})
assert_type(declared.schema, dict[str, Any] | None)
published = publish_step_events([declared], StepContext(), StepHandlerResult.success(), False)
assert_type(published, list[InProcessDomainEvent])
detach = EventBus.instance().subscribe("payment.*", lambda event: print(event.payload))
detach()
Receipts().publish(PublishContext(event_name="a.b", step_result=StepResult(success=True)))

# --- the rest -------------------------------------------------------------------------

assert_type(is_retryable(OSError()), bool)
assert_type(is_permanent(ValueError()), bool)
assert_type(get_classifier(), ErrorClassifier)
assert_type(ErrorClassifier().classify(OSError())["retryable"], bool)
log_info("charged", {"amount": 3})
log_info("charged", LogContext(namespace="shop"))
assert_type(StepFields().filter(logging.makeLogRecord({})), bool)
assert_type(add_step_fields(None, "info", {"event": "charged"}), MutableMapping[str, Any])
assert_type(StepContext().task_sequence_step, TaskSequenceStepWrapper)
assert_type(TemplateParser.extract_handler_callables("order.yaml"), list[str])
assert_type(HandlerDiscovery.discover_all_handlers("config/tasks"), list[str])
TemplatePath.find_template_config_directory()
ended = StepExecutionResult.failure_result(
    uuid4(), uuid4(), StepError(error_type="timeout", message="slow"), 12, "worker"
)
assert_type(ended.correlation_id, UUID | None)
assert_type(ended.status == ResultStatus.RETRYABLE_ERROR, bool)
task: ClientTaskResponse = ClientTaskResponse(task_uuid="x")
