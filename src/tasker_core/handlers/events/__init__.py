"""Domain events: what a step tells the rest of the application when it ends.

A template declares them, a publisher makes the payload (`publishers`), `publish` takes
the events of one outcome, and subscribers of the same process hear of them
(`subscribers`) over the bus (`bus`). Nothing here changes what becomes of a step.
"""

from tasker_core.handlers.events.bus import EventBus
from tasker_core.handlers.events.publish import publish_step_events
from tasker_core.handlers.events.publishers import (
    BasePublisher,
    DefaultPublisher,
    PublisherRegistry,
)
from tasker_core.handlers.events.subscribers import BaseSubscriber, SubscriberRegistry
from tasker_core.handlers.events.types import (
    DomainEventMetadata,
    EventDeclaration,
    ExecutionResult,
    InProcessDomainEvent,
    PublishContext,
    StepEventContext,
    StepResult,
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
