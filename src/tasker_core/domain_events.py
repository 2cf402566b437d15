"""Names that `tasker_core.handlers.events` defines, under the path they were published with."""

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
    publish_step_events,
)

__all__ = [
    "BasePublisher",
    "BaseSubscriber",
    "DefaultPublisher",
    "DomainEventMetadata",
    "EventBus",
    "EventDeclaration",
    "ExecutionResult",
    "InProcessDomainEvent",
    "PublishContext",
    "PublisherRegistry",
    "StepEventContext",
    "StepResult",
    "SubscriberRegistry",
    "publish_step_events",
]
