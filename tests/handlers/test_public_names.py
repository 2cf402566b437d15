"""Every published name can be imported from its published path.

The names are those of upstream that are kept; docs/reference/compatibility.md
lists the others, and what to use instead.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import tasker_core

ERRORS = """
    TaskerError RetryableError PermanentError TimeoutError NetworkError RateLimitError
    ServiceUnavailableError ResourceContentionError ValidationError NotFoundError
    AuthenticationError AuthorizationError ConfigurationError BusinessLogicError
    StepExecutionError
"""
RESOLUTION = """
    HandlerDefinition BaseResolver RegistryResolver ResolverChain ResolverNotFoundError
    ResolutionError ExplicitMappingResolver ClassLookupResolver MethodDispatchWrapper
"""
FUNCTIONAL = """
    step_handler depends_on inputs decision_handler batch_analyzer batch_worker api_handler
    Decision BatchConfig FunctionalHandler HandlerDecorator
"""
EVENTS = """
    EventDeclaration StepResult PublishContext StepEventContext BasePublisher DefaultPublisher
    PublisherRegistry BaseSubscriber SubscriberRegistry
"""
CLIENT = """
    TaskerClient TaskResponse TaskListResponse StepResponse StepAuditResponse HealthResponse
    PaginationInfo
"""
MODELS = """
    TaskSequenceStepWrapper TaskWrapper WorkflowStepWrapper DependencyResultsWrapper
    StepDefinitionWrapper HandlerWrapper
"""
TYPES = """
    ErrorType ResultStatus StepHandlerResult StepError StepExecutionResult StepContext StepEvent
    FfiStepEvent DecisionType DecisionPointOutcome CursorConfig BatchAnalyzerOutcome
    BatchWorkerOutcome BatchWorkerContext FailureStrategy BatchMetadata BatchWorkerInputs
    RustCursorConfig RustBatchWorkerInputs NoBatchesOutcome CreateBatchesOutcome
    BatchProcessingOutcome no_batches create_batches BatchAggregationResult
    aggregate_batch_results LogContext DomainEventMetadata ExecutionResult InProcessDomainEvent
    ClientTaskResponse ClientTaskListResponse ClientStepResponse ClientStepAuditResponse
    ClientHealthResponse ClientPaginationInfo WorkerStatus
"""
PUBLISHED = {
    "step_handler": FUNCTIONAL + "StepHandler ApiHandler ApiResponse DecisionHandler mixins",
    "step_handler.base": "StepHandler StepHandlerCallResult",
    "step_handler.api": "ApiHandler ApiResponse",
    "step_handler.decision": "DecisionHandler",
    "step_handler.mixins": "APIMixin ApiResponse DecisionMixin BatchableMixin",
    "step_handler.mixins.api": "APIMixin ApiResponse",
    "step_handler.mixins.decision": "DecisionMixin",
    "step_handler.functional": FUNCTIONAL,
    "batch_processing": "Batchable BatchableMixin BatchAggregationScenario BatchWorkerConfig",
    "batch_processing.batchable": "Batchable BatchAggregationScenario BatchWorkerConfig",
    "types": TYPES,
    "models": MODELS,
    "handler": "HandlerRegistry StepHandler",
    "registry": RESOLUTION,
    "errors": ERRORS,
    "errors.error_classifier": "ErrorClassifier get_classifier is_retryable is_permanent",
    "exceptions": """TaskerError WorkerNotInitializedError WorkerBootstrapError
        WorkerAlreadyRunningError SerializationError""",
    "bootstrap": "bootstrap_worker stop_worker get_worker_status is_worker_running",
    "worker": "Worker",
    "domain_events": EVENTS,
    "client": CLIENT,
    "logging": "log_error log_warn log_info log_debug log_trace",
    "template_discovery": "TemplatePath TemplateParser HandlerDiscovery",
}
# At the top some have longer names, because others have the short ones already.
LONGER = {
    "TimeoutError": "StepTimeoutError",
    "ValidationError": "StepValidationError",
    **{name: f"Client{name}" for name in CLIENT.split() if name != "TaskerClient"},
}
# Kept where they were published, not at the top: rarely needed, or only for the engine.
BELOW = {
    "BatchMetadata",
    "BatchProcessingOutcome",
    "BatchWorkerInputs",
    "CreateBatchesOutcome",
    "NoBatchesOutcome",
    "RustBatchWorkerInputs",
    "RustCursorConfig",
    "StepHandlerCallResult",
    "create_batches",
    "mixins",
    "no_batches",
}


@pytest.mark.parametrize("path", PUBLISHED)
def test_every_name_is_where_it_was_published(path: str):
    """And in the module's `__all__`, and documented."""
    module = importlib.import_module(f"tasker_core.{path}")

    for name in PUBLISHED[path].split():
        assert hasattr(module, name), f"{path}.{name}"
        if path not in ("errors", "errors.error_classifier", "worker", "template_discovery"):
            assert name in module.__all__, f"{path}.{name}"


@pytest.mark.parametrize("path", PUBLISHED)
def test_the_top_has_the_same_names(path: str):
    """The same objects, whichever way they come in."""
    module = importlib.import_module(f"tasker_core.{path}")

    for name in PUBLISHED[path].split():
        if name in BELOW:
            continue
        top = LONGER.get(name, name)
        assert top in tasker_core.__all__
        if name != "step_handler":  # a decorator and a package at once
            assert getattr(tasker_core, top) is getattr(module, name)


@pytest.mark.parametrize("name", tasker_core.__all__)
def test_the_top_keeps_what_it_promises(name: str):
    """Every name of `__all__` exists, and classes and functions say what they are for."""
    value: Any = getattr(tasker_core, name)

    if isinstance(value, type) or callable(value):
        assert value.__doc__


def test_dropped_names_are_gone_and_listed():
    """With what to use instead; a name that comes back leaves the list."""
    text = (Path(__file__).parents[2] / "docs/reference/compatibility.md").read_text()
    listed = text.partition("## Dropped")[2].partition("\n## ")[0]
    names = re.findall(r"^- ((?:`[\w.]+`(?:, )?)+)", listed, re.MULTILINE)
    dropped = {name for group in names for name in re.findall(r"`([\w.]+)`", group)}

    assert {"EventBridge", "EventPoller", "StepExecutionSubscriber", "FFIError"} <= dropped
    for name in dropped:
        assert not hasattr(tasker_core, name), name
        assert importlib.util.find_spec(f"tasker_core.{name.split('.')[0]}") is None, name


PUBLIC_MODULES = """
    tasker_core tasker_core.types tasker_core.handler tasker_core.registry tasker_core.exceptions
    tasker_core.step_handler tasker_core.step_handler.functional tasker_core.client
    tasker_core.domain_events tasker_core.testing tasker_core.transactional
"""


@pytest.mark.parametrize("module", PUBLIC_MODULES.split())
def test_every_public_name_is_used_under_mypy(module):
    """`make check` runs `mypy --strict tests/typing`."""
    usage = Path(__file__).parent.parent / "typing"
    used = {word for path in usage.glob("*.py") for word in re.findall(r"\w+", path.read_text())}
    assert set(importlib.import_module(module).__all__) - used - {"__version__"} == set()
