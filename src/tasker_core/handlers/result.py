"""What a handler says about its attempt, and how everything else it does is read.

A handler returns a `StepHandlerResult`, or something simpler, or raises. All of
it becomes one `StepHandlerResult` here, by one rule for handlers of every style.
The worker reports that, and finish decides what happens to the step.
"""

from __future__ import annotations

import dataclasses
import math
import traceback
from asyncio import CancelledError
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, InstanceOf, ValidationError

from tasker_core.errors import TaskerError
from tasker_core.errors.error_classifier import PERMANENT_OS_ERRORS, is_httpx
from tasker_core.payload import storable_text

MAX_TRACEBACK = 16_000  # characters; the innermost frames stay
MAX_MESSAGE = 4_000  # characters

if TYPE_CHECKING:
    JsonObject = dict[str, Any]
else:  # must be a dict, but is neither copied nor walked: large results are common
    JsonObject = InstanceOf[dict[Any, Any]]


class ErrorType(StrEnum):
    """The usual labels of a failure; any other string is as good.

    A label says what kind of failure it was. Whether the step is tried again is
    said by `retryable` alone.
    """

    PERMANENT_ERROR = "permanent_error"
    RETRYABLE_ERROR = "retryable_error"
    VALIDATION_ERROR = "validation_error"
    TIMEOUT = "timeout"
    HANDLER_ERROR = "handler_error"

    @classmethod
    def is_standard(cls, error_type: str) -> bool:
        """Say whether this is one of the labels above."""
        return any(error_type == member.value for member in cls)

    @classmethod
    def is_typically_retryable(cls, error_type: str) -> bool:
        """Say whether failures with this label usually pass by themselves."""
        return error_type in (cls.RETRYABLE_ERROR.value, cls.TIMEOUT.value)


_Result = TypeVar("_Result", bound="StepHandlerResult")
_MadeResult = TypeVar("_MadeResult", bound="StepHandlerResult", covariant=True)


class _MakesSuccess(Protocol[_MadeResult]):
    def __call__(
        self,
        result: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> _MadeResult: ...


class _Success:
    """`success`: on the class it makes a result, on a result it says how it went.

    `StepHandlerResult.success(...)` and `result.success is True` are both documented.
    """

    @overload
    def __get__(self, instance: None, owner: type[_Result]) -> _MakesSuccess[_Result]: ...
    @overload
    def __get__(self, instance: StepHandlerResult, owner: type[StepHandlerResult]) -> bool: ...
    def __get__(self, instance: StepHandlerResult | None, owner: type[Any]) -> Any:
        return owner._succeed if instance is None else instance.is_success


class StepHandlerResult(BaseModel):
    """How one attempt of a step went, in the handler's own words.

    Make one with `StepHandlerResult.success(...)` or `StepHandlerResult.failure(...)`;
    read it with `.success`, which is exactly True or False.

    >>> done = StepHandlerResult.success(result={"total": 64.79})
    >>> done.success, done.result["total"]
    (True, 64.79)
    >>> StepHandlerResult.failure("card declined", ErrorType.PERMANENT_ERROR, False).success
    False
    """

    model_config = ConfigDict(ignored_types=(_Success,))

    is_success: bool = Field(
        validation_alias=AliasChoices("is_success", "success"), serialization_alias="success"
    )
    result: JsonObject | None = None  # what dependent steps will see
    error_message: str | None = None
    error_type: str | None = None  # a label, see ErrorType
    error_code: str | None = None  # the author's own stable code: "CARD_DECLINED"
    retryable: bool = True  # only of meaning on a failure
    metadata: JsonObject = Field(default_factory=dict)

    success = _Success()

    @classmethod
    def _succeed(
        cls,
        result: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Say that the step is done.

        Args:
            result: The JSON object that dependent steps will see; None is `{}`.
            metadata: Facts about the attempt, kept with it but not passed on. Copied.

        Raises:
            pydantic.ValidationError: `result` is a list or anything else but a mapping.
        """
        if not isinstance(result, dict):
            result = {} if result is None else _as_dict(result)
        return cls(is_success=True, result=result, metadata=dict(metadata) if metadata else {})

    @classmethod
    def failure(
        cls,
        message: str,
        error_type: str | ErrorType = ErrorType.HANDLER_ERROR,
        retryable: bool = True,
        metadata: Mapping[str, Any] | None = None,
        error_code: str | None = None,
    ) -> Self:
        """Say that the attempt failed.

        Args:
            message: What went wrong, for a person.
            error_type: A label, kept with the attempt.
            retryable: Whether trying again may help. False fails the step at once.
            metadata: Facts about the attempt, kept with it. Copied.
            error_code: A stable code of your own, such as `"CARD_DECLINED"`.
        """
        return cls(
            is_success=False,
            error_message=message,
            error_type=error_type,
            retryable=retryable,
            metadata=dict(metadata) if metadata else {},
            error_code=error_code,
        )

    def is_success_result(self) -> bool:
        """Say whether the step is done."""
        return self.is_success

    def is_failure_result(self) -> bool:
        """Say whether the attempt failed."""
        return not self.is_success

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the step should rest before its next attempt; None leaves it to the backoff.

        Read from the metadata, `retry_after_seconds` before `retry_after`; what is not
        a finite number of at least 0 counts as not given.
        """
        if not self.metadata:
            return None
        for key in ("retry_after_seconds", "retry_after"):
            seconds = _seconds(self.metadata.get(key))
            if seconds is not None:
                return seconds
        return None

    @property
    def checkpoint(self) -> dict[str, Any] | None:
        """What to go on from, if the step is not done but only gives up its slot; else None.

        `{"cursor": …, "items_processed": int}`, and `"accumulated_results": {}` if there
        are any. Made by `checkpoint_yield` of batch workers.
        """
        if self.metadata.get("checkpoint_yield") is not True or not self.is_success:
            return None
        result = self.result or {}
        found = {"cursor": result.get("cursor"), "items_processed": result.get("items_processed")}
        if result.get("accumulated_results") is not None:
            found["accumulated_results"] = result["accumulated_results"]
        return found


def result_from_return(value: Any) -> StepHandlerResult:
    """Read what a handler returned.

    A `StepHandlerResult` is taken as it is. A mapping, a pydantic model or a dataclass
    is the result; None is the empty result; anything else becomes `{"result": value}`.
    An awaitable has to be awaited first.

    Raises:
        Exception: Whatever a model raises that cannot be dumped; it is to be read by
            `result_from_exception` like any other error of the handler.
    """
    if isinstance(value, StepHandlerResult):
        return value
    if value is None:
        return StepHandlerResult.success()
    plain = _as_dict(value)
    return StepHandlerResult.success(plain if isinstance(plain, dict) else {"result": plain})


def result_from_exception(exc: BaseException) -> StepHandlerResult:
    """Read what a handler raised.

    ==================================================  ====================  ===========
    raised                                              error_type            retryable
    ==================================================  ====================  ===========
    `tasker_core.errors`                                the error's own       its own
    pydantic `ValidationError`                          validation_error      no
    missing files, directories, permissions             permanent_error       no
    `TimeoutError`, httpx time-outs                     timeout               yes
    other `OSError`, other httpx transport errors       retryable_error       yes
    httpx `HTTPStatusError`                             by status, as `APIMixin.api_failure`
    any other `Exception`, a stray `CancelledError`     handler_error         yes
    `SystemExit`, `KeyboardInterrupt`                   handler_error         no
    ==================================================  ====================  ===========

    All but Tasker's own errors are kept with `exception_type` and `traceback` in the
    metadata. An exception group of one is read as the one. Never raises.
    """
    reason = exc
    while isinstance(reason, BaseExceptionGroup) and len(reason.exceptions) == 1:
        reason = reason.exceptions[0]
    if isinstance(reason, TaskerError):
        return _from_tasker_error(reason)
    if is_httpx(reason, "HTTPStatusError"):
        return _from_http_status(reason, exc)
    error_type, retryable = _classify(reason)
    return StepHandlerResult.failure(
        _message(reason),
        error_type,
        retryable,
        metadata={"exception_type": type(reason).__name__, "traceback": _traceback(exc)},
    )


def _from_tasker_error(error: TaskerError) -> StepHandlerResult:
    # A subclass may have forgotten super().__init__(), so nothing is taken for granted.
    facts = getattr(error, "metadata", None)
    metadata = dict(facts) if isinstance(facts, Mapping) else {}
    retry_after = _seconds(getattr(error, "retry_after", None))
    if retry_after is not None:
        metadata["retry_after_seconds"] = retry_after
    error_code = getattr(error, "error_code", None)
    return StepHandlerResult.failure(
        _message(error),
        str(getattr(error, "error_type", error.default_error_type)),
        bool(getattr(error, "retryable", error.retryable_by_default)),
        metadata=metadata,
        error_code=None if error_code is None else str(error_code),
    )


def _from_http_status(error: Any, raised: BaseException) -> StepHandlerResult:
    """Read what `raise_for_status` raised; its text has the address, whose query may be secret."""
    from tasker_core.handlers.api.status import (
        classify_status,
        retry_after_seconds,
        without_query,
    )

    status, headers = error.response.status_code, error.response.headers
    failure = classify_status(status)
    address = str(error.request.url)
    metadata: dict[str, Any] = {
        "status_code": status,
        "exception_type": type(error).__name__,
        "traceback": _traceback(raised).replace(address, without_query(address)),
    }
    rest = retry_after_seconds(headers)
    if rest is not None:
        metadata["retry_after_seconds"] = rest
    message = _message(error).replace(address, without_query(address))
    return StepHandlerResult.failure(message, failure.error_type, failure.retryable, metadata)


def _classify(exc: BaseException) -> tuple[ErrorType, bool]:
    if isinstance(exc, ValidationError):
        return ErrorType.VALIDATION_ERROR, False
    if isinstance(exc, PERMANENT_OS_ERRORS):
        return ErrorType.PERMANENT_ERROR, False
    if isinstance(exc, TimeoutError) or is_httpx(exc, "TimeoutException"):
        return ErrorType.TIMEOUT, True
    if isinstance(exc, OSError) or is_httpx(exc, "TransportError"):
        return ErrorType.RETRYABLE_ERROR, True
    return ErrorType.HANDLER_ERROR, isinstance(exc, Exception | CancelledError)


_SLIPS = (AttributeError, LookupError, NameError, TypeError)


def _message(exc: BaseException) -> str:
    name = type(exc).__name__
    try:
        text = _violations(exc) if isinstance(exc, ValidationError) else str(exc)
    except Exception as error:
        text = f"{name} (its message cannot be read: {type(error).__name__})"
    if isinstance(exc, SystemExit):
        text = f"the handler left with sys.exit({text})"
    elif isinstance(exc, _SLIPS):  # the text alone says little: of a KeyError it is the key
        text = f"{name}: {text}"
    return _shorten(storable_text(text or name), MAX_MESSAGE)


def _violations(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    places = [f"{'.'.join(map(str, item['loc'])) or '(whole)'}: {item['msg']}" for item in found]
    return f"{error.title} is not valid: " + "; ".join(places)


def _traceback(exc: BaseException) -> str:
    # One entry is one frame or one message; a message of a megabyte must not
    # push the frames out.
    entries = map(storable_text, traceback.format_exception(exc))
    text = "".join(_shorten(entry, MAX_MESSAGE) for entry in entries)
    if len(text) <= MAX_TRACEBACK:
        return text
    return "(outer frames left out) …\n" + text[-MAX_TRACEBACK:]


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " …\n"


def _as_dict(value: Any) -> Any:
    """Turn a mapping, a pydantic model or a dataclass into a dict; leave the rest alone."""
    if isinstance(value, Mapping):
        return value if isinstance(value, dict) else dict(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
