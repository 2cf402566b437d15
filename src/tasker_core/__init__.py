"""Tasker: durable workflows in Python and PostgreSQL.

These are the names that an application needs. Each is imported when it is first
used, so that `import tasker_core` is quick, and starts nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker_core.client import AsyncTaskerClient, TaskerClient
    from tasker_core.client import HealthResponse as ClientHealthResponse
    from tasker_core.client import PaginationInfo as ClientPaginationInfo
    from tasker_core.client import StepAuditResponse as ClientStepAuditResponse
    from tasker_core.client import StepResponse as ClientStepResponse
    from tasker_core.client import TaskListResponse as ClientTaskListResponse
    from tasker_core.client import TaskResponse as ClientTaskResponse
    from tasker_core.errors import (
        AuthenticationError,
        AuthorizationError,
        BusinessLogicError,
        ConfigurationError,
        NetworkError,
        NotFoundError,
        PermanentError,
        RateLimitError,
        ResolutionError,
        ResolverNotFoundError,
        ResourceContentionError,
        RetryableError,
        SerializationError,
        ServiceUnavailableError,
        StepExecutionError,
        TaskerError,
        WorkerAlreadyRunningError,
        WorkerBootstrapError,
        WorkerNotInitializedError,
    )
    from tasker_core.errors import TimeoutError as StepTimeoutError
    from tasker_core.errors import ValidationError as StepValidationError
    from tasker_core.errors.error_classifier import (
        ErrorClassifier,
        get_classifier,
        is_permanent,
        is_retryable,
    )
    from tasker_core.handlers.api import ApiHandler, APIMixin, ApiResponse
    from tasker_core.handlers.base import StepHandler
    from tasker_core.handlers.batch import (
        Batchable,
        BatchableMixin,
        BatchAggregationResult,
        BatchAggregationScenario,
        BatchAnalyzerOutcome,
        BatchWorkerConfig,
        BatchWorkerContext,
        BatchWorkerOutcome,
        CursorConfig,
        FailureStrategy,
        aggregate_batch_results,
    )
    from tasker_core.handlers.bound import HandlerDefinition, MethodDispatchWrapper
    from tasker_core.handlers.chain import ResolverChain
    from tasker_core.handlers.context import StepContext
    from tasker_core.handlers.decision import (
        DecisionHandler,
        DecisionMixin,
        DecisionPointOutcome,
        DecisionType,
    )
    from tasker_core.handlers.event import FfiStepEvent, StepEvent
    from tasker_core.handlers.events import (
        BasePublisher,
        BaseSubscriber,
        DefaultPublisher,
        DomainEventMetadata,
        EventBus,
        EventDeclaration,
        ExecutionResult,
        InProcessDomainEvent,
        PublishContext,
        PublisherRegistry,
        StepEventContext,
        StepResult,
        SubscriberRegistry,
    )
    from tasker_core.handlers.execution import ResultStatus, StepError, StepExecutionResult
    from tasker_core.handlers.functional import (
        FunctionalHandler,
        HandlerDecorator,
        depends_on,
        inputs,
        step_handler,
    )
    from tasker_core.handlers.functional_kinds import (
        BatchConfig,
        Decision,
        api_handler,
        batch_analyzer,
        batch_worker,
        decision_handler,
    )
    from tasker_core.handlers.logs import (
        LogContext,
        log_debug,
        log_error,
        log_info,
        log_trace,
        log_warn,
    )
    from tasker_core.handlers.models import (
        DependencyResultsWrapper,
        HandlerWrapper,
        StepDefinitionWrapper,
        TaskSequenceStepWrapper,
        TaskWrapper,
        WorkflowStepWrapper,
    )
    from tasker_core.handlers.registry import HandlerRegistry
    from tasker_core.handlers.resolvers import (
        BaseResolver,
        ClassLookupResolver,
        ExplicitMappingResolver,
        RegistryResolver,
    )
    from tasker_core.handlers.result import ErrorType, StepHandlerResult
    from tasker_core.template_discovery import HandlerDiscovery, TemplateParser, TemplatePath
    from tasker_core.worker.worker import (
        Worker,
        WorkerStatus,
        bootstrap_worker,
        get_worker_status,
        is_worker_running,
        stop_worker,
    )

    __version__: str

__all__ = [
    "APIMixin",
    "ApiHandler",
    "ApiResponse",
    "AsyncTaskerClient",
    "AuthenticationError",
    "AuthorizationError",
    "BasePublisher",
    "BaseResolver",
    "BaseSubscriber",
    "BatchAggregationResult",
    "BatchAggregationScenario",
    "BatchAnalyzerOutcome",
    "BatchConfig",
    "BatchWorkerConfig",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "Batchable",
    "BatchableMixin",
    "BusinessLogicError",
    "ClassLookupResolver",
    "ClientHealthResponse",
    "ClientPaginationInfo",
    "ClientStepAuditResponse",
    "ClientStepResponse",
    "ClientTaskListResponse",
    "ClientTaskResponse",
    "ConfigurationError",
    "CursorConfig",
    "Decision",
    "DecisionHandler",
    "DecisionMixin",
    "DecisionPointOutcome",
    "DecisionType",
    "DefaultPublisher",
    "DependencyResultsWrapper",
    "DomainEventMetadata",
    "ErrorClassifier",
    "ErrorType",
    "EventBus",
    "EventDeclaration",
    "ExecutionResult",
    "ExplicitMappingResolver",
    "FailureStrategy",
    "FfiStepEvent",
    "FunctionalHandler",
    "HandlerDecorator",
    "HandlerDefinition",
    "HandlerDiscovery",
    "HandlerRegistry",
    "HandlerWrapper",
    "InProcessDomainEvent",
    "LogContext",
    "MethodDispatchWrapper",
    "NetworkError",
    "NotFoundError",
    "PermanentError",
    "PublishContext",
    "PublisherRegistry",
    "RateLimitError",
    "RegistryResolver",
    "ResolutionError",
    "ResolverChain",
    "ResolverNotFoundError",
    "ResourceContentionError",
    "ResultStatus",
    "RetryableError",
    "SerializationError",
    "ServiceUnavailableError",
    "StepContext",
    "StepDefinitionWrapper",
    "StepError",
    "StepEvent",
    "StepEventContext",
    "StepExecutionError",
    "StepExecutionResult",
    "StepHandler",
    "StepHandlerResult",
    "StepResult",
    "StepTimeoutError",
    "StepValidationError",
    "SubscriberRegistry",
    "TaskSequenceStepWrapper",
    "TaskWrapper",
    "TaskerClient",
    "TaskerError",
    "TemplateParser",
    "TemplatePath",
    "Worker",
    "WorkerAlreadyRunningError",
    "WorkerBootstrapError",
    "WorkerNotInitializedError",
    "WorkerStatus",
    "WorkflowStepWrapper",
    "__version__",
    "aggregate_batch_results",
    "api_handler",
    "batch_analyzer",
    "batch_worker",
    "bootstrap_worker",
    "decision_handler",
    "depends_on",
    "get_classifier",
    "get_version",
    "get_worker_status",
    "inputs",
    "is_permanent",
    "is_retryable",
    "is_worker_running",
    "log_debug",
    "log_error",
    "log_info",
    "log_trace",
    "log_warn",
    "step_handler",
    "stop_worker",
    "version",
]

# Where a name comes from, and what it is called there if not the same.
_NAMES = {
    "tasker_core.errors": """
        AuthenticationError AuthorizationError BusinessLogicError ConfigurationError
        NetworkError NotFoundError PermanentError RateLimitError ResolutionError
        ResolverNotFoundError ResourceContentionError RetryableError SerializationError
        ServiceUnavailableError StepExecutionError StepTimeoutError StepValidationError
        TaskerError WorkerAlreadyRunningError WorkerBootstrapError WorkerNotInitializedError
    """,
    "tasker_core.errors.error_classifier": """
        ErrorClassifier get_classifier is_permanent is_retryable
    """,
    "tasker_core.client": """
        AsyncTaskerClient ClientHealthResponse ClientPaginationInfo ClientStepAuditResponse
        ClientStepResponse ClientTaskListResponse ClientTaskResponse TaskerClient
    """,
    "tasker_core.handlers.api": "APIMixin ApiHandler ApiResponse",
    "tasker_core.handlers.base": "StepHandler",
    "tasker_core.handlers.batch": """
        BatchAggregationResult BatchAggregationScenario BatchAnalyzerOutcome
        BatchWorkerConfig BatchWorkerContext BatchWorkerOutcome Batchable BatchableMixin
        CursorConfig FailureStrategy aggregate_batch_results
    """,
    "tasker_core.handlers.bound": "HandlerDefinition MethodDispatchWrapper",
    "tasker_core.handlers.chain": "ResolverChain",
    "tasker_core.handlers.context": "StepContext",
    "tasker_core.handlers.decision": """
        DecisionHandler DecisionMixin DecisionPointOutcome DecisionType
    """,
    "tasker_core.handlers.event": "FfiStepEvent StepEvent",
    "tasker_core.handlers.events": """
        BasePublisher BaseSubscriber DefaultPublisher DomainEventMetadata EventBus
        EventDeclaration ExecutionResult InProcessDomainEvent PublishContext
        PublisherRegistry StepEventContext StepResult SubscriberRegistry
    """,
    "tasker_core.handlers.execution": "ResultStatus StepError StepExecutionResult",
    "tasker_core.handlers.functional": "FunctionalHandler HandlerDecorator depends_on inputs",
    "tasker_core.handlers.functional_kinds": """
        BatchConfig Decision api_handler batch_analyzer batch_worker decision_handler
    """,
    "tasker_core.handlers.logs": "LogContext log_debug log_error log_info log_trace log_warn",
    "tasker_core.handlers.models": """
        DependencyResultsWrapper HandlerWrapper StepDefinitionWrapper
        TaskSequenceStepWrapper TaskWrapper WorkflowStepWrapper
    """,
    "tasker_core.handlers.registry": "HandlerRegistry",
    "tasker_core.handlers.resolvers": """
        BaseResolver ClassLookupResolver ExplicitMappingResolver RegistryResolver
    """,
    "tasker_core.handlers.result": "ErrorType StepHandlerResult",
    "tasker_core.template_discovery": "HandlerDiscovery TemplateParser TemplatePath",
    "tasker_core.worker.worker": """
        Worker WorkerStatus bootstrap_worker get_worker_status is_worker_running stop_worker
    """,
}
_RENAMED = {
    "ClientHealthResponse": "HealthResponse",
    "ClientPaginationInfo": "PaginationInfo",
    "ClientStepAuditResponse": "StepAuditResponse",
    "ClientStepResponse": "StepResponse",
    "ClientTaskListResponse": "TaskListResponse",
    "ClientTaskResponse": "TaskResponse",
    "StepTimeoutError": "TimeoutError",
    "StepValidationError": "ValidationError",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


def version() -> str:
    """Give the installed version of tasker-py."""
    from importlib.metadata import version as installed_version

    return installed_version("tasker-py")


def get_version() -> str:
    """Give the installed version of tasker-py."""
    return version()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = version()
    elif name == "step_handler":
        # The decorator has the name of a package, which importing it puts here.
        # The package can be called like the decorator, so it is given every time.
        return import_module("tasker_core.step_handler")
    elif name in _HOMES:
        home = import_module(_HOMES[name])
        value = getattr(home, _RENAMED.get(name, name))
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
