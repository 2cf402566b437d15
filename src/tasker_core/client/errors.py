"""What may go wrong when talking to a server.

::

    TaskerClientError           the server said no, or said nothing that makes sense
    ├─ TaskNotFoundError        404: no such task, step or template
    ├─ TaskConflictError        409: it exists already, or its state forbids it
    ├─ TaskValidationError      400, 422: the request is wrong; `errors` says where
    ├─ TaskerUnauthorizedError  401: the server does not know who calls; `reason` says why
    ├─ TaskerForbiddenError     403: it does, and they may not
    ├─ TaskerConnectionError    nobody answers
    └─ TaskWaitTimeout          the task did not end in time; `task` is how it stands
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasker_core.errors import TaskerError

if TYPE_CHECKING:
    from tasker_core.client.answers import TaskResponse


class TaskerClientError(TaskerError, RuntimeError):
    """A call that did not succeed.

    Args:
        message: What went wrong, for a person.
        status_code: The HTTP status; None when there was no answer.
        recoverable: Whether the same call may succeed later.
        details: The server's problem document, or what there was instead.

    Attributes:
        server: The URL of the server that answered; None if none did.
    """

    code = "client_error"
    retryable_by_default = False

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        recoverable: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.status_code = status_code
        self.server: str | None = None
        self.recoverable = recoverable
        self.details = dict(details or {})
        super().__init__(message, retryable=recoverable, error_code=self.details.get("code"))

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Every single thing that is wrong: `{"pointer", "message", "kind"}`."""
        return list(self.details.get("errors") or ())


class TaskNotFoundError(TaskerClientError):
    """There is no such task, step or template."""

    code = "client_not_found"


class TaskConflictError(TaskerClientError):
    """The task exists already, or the present state forbids what was asked for."""

    code = "client_conflict"


class TaskValidationError(TaskerClientError):
    """The request is wrong."""

    code = "client_validation"


class TaskerUnauthorizedError(TaskerClientError):
    """The server does not know who calls: no credential, or one that does not hold."""

    code = "client_unauthorized"

    @property
    def reason(self) -> str | None:
        """What is wrong with the credential; None if the server does not say.

        `missing`, `malformed`, `invalid`, `expired` or `unknown_permission`.
        """
        told = self.details.get("reason")
        return None if told is None else str(told)


class TaskerForbiddenError(TaskerClientError):
    """The server knows who calls, and they may not do this."""

    code = "client_forbidden"


class TaskerConnectionError(TaskerClientError):
    """Nobody answers at the server's address."""

    code = "client_connection"

    def __init__(self, base_url: str, reason: str) -> None:
        self.base_url, self.reason = base_url, reason
        super().__init__(
            f"cannot reach a Tasker server at {base_url}: {reason}; start one with "
            f"tasker-ctl dev, or say where it is: TASKER_URL or base_url",
            recoverable=True,
        )


class TaskWaitTimeout(TaskerClientError, TimeoutError):
    """The task did not end in time. It runs on."""

    code = "client_wait_timeout"

    def __init__(self, task: TaskResponse, seconds: float) -> None:
        self.task = task
        super().__init__(
            f"task {task.task_uuid} ({task.name}) did not end within {seconds:g} seconds: it is "
            f"{task.status}, {task.completed_steps} of {task.total_steps} steps are done",
            recoverable=True,
        )


def error_for(status: int, document: Mapping[str, Any]) -> TaskerClientError:
    """Choose the error for a status and a problem document."""
    kinds: dict[int, type[TaskerClientError]] = {
        400: TaskValidationError,
        401: TaskerUnauthorizedError,
        403: TaskerForbiddenError,
        404: TaskNotFoundError,
        409: TaskConflictError,
        413: TaskValidationError,
        422: TaskValidationError,
    }
    kind = kinds.get(status, TaskerClientError)
    older = document.get("error")
    told = document.get("detail") or (older.get("message") if isinstance(older, dict) else None)
    return kind(
        str(told or f"the server answered {status}"),
        status_code=status,
        recoverable=status in (408, 429) or status >= 500,
        details=document,
    )
