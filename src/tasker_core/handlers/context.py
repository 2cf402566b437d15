"""What a handler gets to see of its attempt.

The worker builds one context for each claimed step. It costs next to nothing:
inputs stay the text that came from the database until somebody looks at them.
Each attempt parses its own copies, so a handler may change what it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, Self, TypeVar, overload
from uuid import UUID, uuid4

from tasker_core.errors import AttemptCancelled, TransactionMisuse
from tasker_core.handlers.transaction import StepTransaction, TransactionHost
from tasker_core.payload import decode

if TYPE_CHECKING:
    import asyncpg
    import psycopg
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from tasker_core.handlers.event import StepEvent
    from tasker_core.handlers.models import TaskSequenceStepWrapper

_T = TypeVar("_T")


class Loan(Protocol):
    """What a context asks whether its attempt still counts."""

    @property
    def is_over(self) -> bool:
        """Whether its result is decided."""


class _Lazy(Generic[_T]):
    """A field that is made when it is first read; assigning to it replaces it."""

    def __init__(self, make: Callable[[StepContext], _T]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, context: None, owner: type) -> Self: ...
    @overload
    def __get__(self, context: StepContext, owner: type) -> _T: ...
    def __get__(self, context: StepContext | None, owner: type) -> Self | _T:
        if context is None:
            return self
        value = self.make(context)
        context.__dict__[self.name] = value
        return value


class StepContext:
    """One attempt of one step: its inputs, the results before it, its place in the task.

    In tests, make one with `StepContext.for_testing`.

    Args:
        task_uuid: The task. Made up if left out, like the next two.
        step_uuid: The step.
        correlation_id: What the task's creator uses to find it in logs.
        handler_name: The handler that runs.
        input_data: The task's context, as its creator gave it.
        dependency_results: Results of the steps before this one, each as
            `{"result": …}`, or as the plain result if it has no key `result`.
        step_config: The template's `handler.initialization`.
        step_inputs: What the engine adds for this one step, such as a batch's cursor.
        retry_count: Attempts before this one: 0 on the first.
        max_retries: How many attempts there are in all; None and 0 mean 3.
        checkpoint: What an earlier run of this step left to go on from.
        step_name: The step's name in its task.
        task_name: The template's name.
        task_version: The template's version.
        namespace: The template's namespace.
        event: The event that the context was made from, if any.

    Raises:
        ValueError: An id is not a UUID.
    """

    task_uuid: UUID
    step_uuid: UUID
    correlation_id: UUID
    handler_name: str
    retry_count: int
    max_retries: int
    step_name: str
    task_name: str
    task_version: str
    namespace: str
    event: StepEvent | None = None

    # Where the lazy fields come from; set by of_attempt.
    _input_text: str | bytes | None = None
    _config_text: str | bytes | None = None
    _inputs_text: str | bytes | None = None
    _checkpoint_text: str | bytes | None = None
    _results: Mapping[str, Any] | None = None
    _host: TransactionHost | None = None
    _loan: Loan | None = None  # set by whoever runs the attempt

    def __init__(
        self,
        *,
        task_uuid: UUID | str | None = None,
        step_uuid: UUID | str | None = None,
        correlation_id: UUID | str | None = None,
        handler_name: str = "",
        input_data: Mapping[str, Any] | None = None,
        dependency_results: Mapping[str, Any] | None = None,
        step_config: Mapping[str, Any] | None = None,
        step_inputs: Mapping[str, Any] | None = None,
        retry_count: int | None = 0,
        max_retries: int | None = 3,
        checkpoint: Mapping[str, Any] | None = None,
        step_name: str = "",
        task_name: str = "",
        task_version: str = "",
        namespace: str = "",
        event: StepEvent | None = None,
    ) -> None:
        self.task_uuid = _uuid("task_uuid", task_uuid)
        self.step_uuid = _uuid("step_uuid", step_uuid)
        self.correlation_id = _uuid("correlation_id", correlation_id)
        self.handler_name = handler_name
        self.input_data = dict(input_data or {})
        self.dependency_results = dependency_results or {}
        self.step_config = dict(step_config or {})
        self.step_inputs = dict(step_inputs or {})
        self.retry_count = retry_count or 0
        self.max_retries = max_retries or 3
        self.checkpoint = dict(checkpoint) if isinstance(checkpoint, Mapping) else None
        self.step_name = step_name
        self.task_name = task_name
        self.task_version = task_version
        self.namespace = namespace
        self.event = event

    @classmethod
    def of_attempt(
        cls,
        *,
        task_uuid: UUID,
        step_uuid: UUID,
        correlation_id: UUID,
        handler_name: str,
        step_name: str,
        task_name: str,
        task_version: str,
        namespace: str,
        attempt: int,
        max_attempts: int,
        results: Mapping[str, Any],
        input_text: str | bytes | None = None,
        config_text: str | bytes | None = None,
        inputs_text: str | bytes | None = None,
        checkpoint_text: str | bytes | None = None,
        host: TransactionHost | None = None,
    ) -> Self:
        """Make the context of a claimed step; nothing is checked, copied or parsed yet.

        Args:
            attempt: The attempt that begins, counted from 1.
            max_attempts: How many attempts there are in all.
            results: Step name → that step's result, without an envelope. Asked anew at
                each access, so it may fetch and parse as late as it likes; it has to
                give this attempt copies of its own.
            input_text: The task's context, as JSON text; likewise the next three.
            config_text: The template's `handler.initialization`.
            inputs_text: What the engine adds for this one step.
            checkpoint_text: What an earlier run of this step left to go on from.
            host: Who begins the step's own transaction; None: nobody.
        """
        context = cls.__new__(cls)
        context.task_uuid = task_uuid
        context.step_uuid = step_uuid
        context.correlation_id = correlation_id
        context.handler_name = handler_name
        context.step_name = step_name
        context.task_name = task_name
        context.task_version = task_version
        context.namespace = namespace
        context.retry_count = attempt - 1
        context.max_retries = max_attempts
        context._results = results
        context._input_text = input_text
        context._config_text = config_text
        context._inputs_text = inputs_text
        context._checkpoint_text = checkpoint_text
        context._host = host
        return context

    @classmethod
    def for_testing(
        cls,
        *,
        input_data: Mapping[str, Any] | None = None,
        dependency_results: Mapping[str, Any] | None = None,
        step_config: Mapping[str, Any] | None = None,
        step_inputs: Mapping[str, Any] | None = None,
        checkpoint: Mapping[str, Any] | None = None,
        attempts: int = 0,
        max_attempts: int = 3,
        task_uuid: UUID | str | None = None,
        step_uuid: UUID | str | None = None,
        correlation_id: UUID | str | None = None,
        handler_name: str = "",
        step_name: str = "",
        task_name: str = "",
        task_version: str = "",
        namespace: str = "",
        is_cancelled: bool = False,
    ) -> Self:
        """Make a context for a unit test; leave out what the handler does not look at.

        Args:
            dependency_results: Step name → what that step's handler returned, plain.
            attempts: Attempts before this one: 0 for the first.
            max_attempts: How many attempts there are in all.
            is_cancelled: The attempt does not count any more.

        >>> context = StepContext.for_testing(dependency_results={"cart": {"total": 64.79}})
        >>> context.get_dependency_field("cart", "total")
        64.79
        """
        context = cls(
            task_uuid=task_uuid,
            step_uuid=step_uuid,
            correlation_id=correlation_id,
            handler_name=handler_name,
            input_data=input_data,
            dependency_results=_Envelopes(dict(dependency_results or {})),
            step_config=step_config,
            step_inputs=step_inputs,
            retry_count=attempts,
            max_retries=max_attempts,
            checkpoint=checkpoint,
            step_name=step_name,
            task_name=task_name,
            task_version=task_version,
            namespace=namespace,
        )
        context._loan = _Over() if is_cancelled else None
        return context

    @classmethod
    def from_event(cls, event: StepEvent, handler_name: str) -> Self:
        """Make a context from a step event; whatever the event lacks takes its default."""
        return cls(event=event, handler_name=handler_name, **event.context_fields())

    from_ffi_event = from_event

    # --- inputs ---------------------------------------------------------------------

    @_Lazy
    def input_data(self) -> dict[str, Any]:
        """The task's context."""
        return _object(self._input_text)

    @_Lazy
    def step_config(self) -> dict[str, Any]:
        """The template's `handler.initialization`."""
        return _object(self._config_text)

    @_Lazy
    def step_inputs(self) -> dict[str, Any]:
        """What the engine adds for this one step."""
        return _object(self._inputs_text)

    def get_input(self, key: str) -> Any:
        """Give a field of the task's context; None if there is none."""
        return self.input_data.get(key)

    def get_input_or(self, key: str, default: Any = None) -> Any:
        """Give a field of the task's context; `default` if it is missing or null."""
        value = self.input_data.get(key)
        return default if value is None else value

    def get_task_field(self, name: str) -> Any:
        """Give a field of the task's context, as `get_input` does."""
        return self.get_input(name)

    def get_config(self, key: str) -> Any:
        """Give a field of the template's `handler.initialization`; None if there is none."""
        return self.step_config.get(key)

    # --- results of the steps before --------------------------------------------------

    @_Lazy
    def dependency_results(self) -> Mapping[str, Any]:
        """Step name → `{"result": …}`, for every step that this one comes after."""
        return _Envelopes({} if self._results is None else self._results)

    def get_dependency_result(self, step_name: str) -> Any:
        """Give what an earlier step's handler returned; None if there is no such result."""
        results = self.dependency_results
        if isinstance(results, _Envelopes):
            # Only hand-made envelopes leave a doubt whether a key `result` is theirs.
            return results.plain.get(step_name)
        envelope = results.get(step_name)
        if isinstance(envelope, Mapping) and "result" in envelope:
            return envelope["result"]
        return envelope

    def get_dependency_field(self, step_name: str, *path: str) -> Any:
        """Give a field of an earlier step's result; None if any part of the path is missing."""
        value = self.get_dependency_result(step_name)
        for key in path:
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value

    def get_dependency_result_keys(self) -> list[str]:
        """Name the earlier steps that have a result."""
        return list(self.dependency_results)

    def get_all_dependency_results(self, prefix: str) -> list[Any]:
        """Give the results of all earlier steps whose name begins so; None is left out."""
        named = [name for name in self.dependency_results if name.startswith(prefix)]
        results = [self.get_dependency_result(name) for name in named]
        return [result for result in results if result is not None]

    # --- attempts -----------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self.retry_count + 1

    def is_retry(self) -> bool:
        """Say whether an earlier attempt failed."""
        return self.retry_count > 0

    def is_last_retry(self) -> bool:
        """Say whether this is the last attempt; a single attempt is the last one, too."""
        return self.retry_count >= self.max_retries - 1

    # --- checkpoint ---------------------------------------------------------------------

    @_Lazy
    def checkpoint(self) -> dict[str, Any] | None:
        """What an earlier run of this step left to go on from; None if nothing."""
        return _object(self._checkpoint_text) or None

    @property
    def checkpoint_cursor(self) -> Any:
        """Where the earlier run stopped. May be 0: ask `has_checkpoint()` whether there is one."""
        return (self.checkpoint or {}).get("cursor")

    @property
    def checkpoint_items_processed(self) -> int:
        """How many items earlier runs of this step have done."""
        return (self.checkpoint or {}).get("items_processed") or 0

    @property
    def accumulated_results(self) -> dict[str, Any] | None:
        """What earlier runs of this step have gathered; None if nothing."""
        return (self.checkpoint or {}).get("accumulated_results")

    def has_checkpoint(self) -> bool:
        """Say whether an earlier run of this step left a cursor."""
        return self.checkpoint_cursor is not None

    # --- the step's own transaction ---------------------------------------------------------

    @overload
    def transaction(
        self, engine: None = None
    ) -> StepTransaction[asyncpg.Connection[asyncpg.Record], psycopg.Connection]: ...
    @overload
    def transaction(self, engine: AsyncEngine) -> StepTransaction[AsyncConnection, NoReturn]: ...
    @overload
    def transaction(self, engine: Engine) -> StepTransaction[NoReturn, Connection]: ...
    def transaction(self, engine: Any = None) -> StepTransaction[Any, Any]:
        """Write to the application's tables in the transaction that records this step's result.

        `async with context.transaction() as conn` in an async handler, `with` in others.
        Leaving the block commits nothing. When the handler has returned, the worker records
        its result in the transaction and commits: both happen, or neither does. It rolls
        back when the handler fails, and when its result comes too late to count.

        An attempt has one transaction. An exception that leaves the block rolls it back at
        once; a handler that goes on all the same may begin another one.

        Args:
            engine: A SQLAlchemy AsyncEngine (async handlers) or Engine (others) on the
                worker's database, whose Connection the block then gives. None gives a
                connection of the worker's own: asyncpg's (async), psycopg's (others).

        Raises:
            TransactionMisuse: There is no database, as in a unit test; or, when the block is
                entered, the kind of block or engine does not fit the handler, the attempt
                has a transaction already, or the engine leads to another database.
        """
        if self._host is None:
            raise TransactionMisuse(
                "there is no database behind this context, so context.transaction() has nothing "
                "to begin: test the handler in a whole workflow, with "
                "tasker_core.testing.run_workflow, or move what it writes into a function that "
                "takes a connection"
            )
        return StepTransaction(self._host, engine)

    # --- the attempt ----------------------------------------------------------------------

    @property
    def is_cancelled(self) -> bool:
        """Whether the attempt does not count any more, so that its result would be refused.

        It turns true when the task was cancelled or resolved, when an operator settled the
        step, at a time-out, and when the lease was lost. An async handler is cancelled then;
        any other has to look, in the middle of what takes long. To look costs nothing.
        """
        return self._loan is not None and self._loan.is_over

    def raise_if_cancelled(self) -> None:
        """End the handler here if the attempt does not count any more.

        Raises:
            AttemptCancelled: See `is_cancelled`; nobody records it.
        """
        if self.is_cancelled:
            raise AttemptCancelled(self.step_name)

    # --- the whole ----------------------------------------------------------------------

    @property
    def task_sequence_step(self) -> TaskSequenceStepWrapper:
        """Task, step, definition and results in one object, made anew at each access.

        From the event if there is one; else from the context, and then the definition
        knows no more than the handler.
        """
        from tasker_core.handlers.models import TaskSequenceStepWrapper

        return TaskSequenceStepWrapper.of(self)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.namespace}/{self.task_name} step {self.step_name!r}, "
            f"attempt {self.attempt} of {self.max_retries}, task {self.task_uuid})"
        )


class _Over:
    """An attempt that does not count any more."""

    is_over = True


class _Envelopes(Mapping[str, Any]):
    """Plain results, each shown as `{"result": …}`."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.plain = results

    def __getitem__(self, step_name: str) -> dict[str, Any]:
        return {"result": self.plain[step_name]}

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)

    def __repr__(self) -> str:
        return repr(dict(self))


def _object(text: str | bytes | None) -> dict[str, Any]:
    value = decode(text)
    return value if isinstance(value, dict) else {}


def _uuid(name: str, value: UUID | str | None) -> UUID:
    if value is None:
        return uuid4()
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{name} is {value!r}, which is not a UUID") from None
