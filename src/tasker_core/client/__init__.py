"""The HTTP API as Python functions: `TaskerClient`, and `AsyncTaskerClient` for async code.

client.py   the two clients, alike but for `await`
dlq.py      their part for dead letters
views.py    their part for the sides of a task, and for many tasks
live.py     their part for following and waiting
calls.py    what each function asks for, and how the answer is read
address.py  which server, and with which credentials
answers.py  what comes back
errors.py   what may go wrong
"""

from tasker_core.client.answers import (
    BulkCreateItem,
    BulkCreateResponse,
    HealthResponse,
    PaginationInfo,
    StepAuditResponse,
    StepCause,
    StepResponse,
    TaskActionOutcome,
    TaskActionsResponse,
    TaskEvent,
    TaskListResponse,
    TaskResponse,
    WhoamiResponse,
)
from tasker_core.client.client import AsyncTaskerClient, TaskerClient
from tasker_core.client.errors import (
    TaskConflictError,
    TaskerClientError,
    TaskerConnectionError,
    TaskerForbiddenError,
    TaskerUnauthorizedError,
    TaskNotFoundError,
    TaskValidationError,
    TaskWaitTimeout,
)

__all__ = [
    "AsyncTaskerClient",
    "BulkCreateItem",
    "BulkCreateResponse",
    "HealthResponse",
    "PaginationInfo",
    "StepAuditResponse",
    "StepCause",
    "StepResponse",
    "TaskActionOutcome",
    "TaskActionsResponse",
    "TaskConflictError",
    "TaskEvent",
    "TaskListResponse",
    "TaskNotFoundError",
    "TaskResponse",
    "TaskValidationError",
    "TaskWaitTimeout",
    "TaskerClient",
    "TaskerClientError",
    "TaskerConnectionError",
    "TaskerForbiddenError",
    "TaskerUnauthorizedError",
    "WhoamiResponse",
]
