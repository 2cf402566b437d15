"""What handlers return and raise becomes one result, by one rule."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections import UserDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core import errors
from tasker_core.handlers.result import (
    MAX_TRACEBACK,
    ErrorType,
    StepHandlerResult,
    result_from_exception,
    result_from_return,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# --- the result ---------------------------------------------------------------------


def test_success_is_a_factory_on_the_class_and_a_bool_on_a_result():
    """`StepHandlerResult.success(...)` makes one, `.success` says exactly True or False."""
    done = StepHandlerResult.success(result={"total": 3}, metadata={"tries": 1})
    failed = StepHandlerResult.failure(
        message="no", error_type=ErrorType.PERMANENT_ERROR, retryable=False, error_code="NO"
    )

    assert done.success is True
    assert (done.result, done.metadata) == ({"total": 3}, {"tries": 1})
    assert failed.success is False
    assert (failed.error_message, failed.error_type, failed.error_code, failed.retryable) == (
        "no",
        "permanent_error",
        "NO",
        False,
    )


def test_error_types_are_plain_strings():
    """An enum member given as a label is stored as text, whichever way it comes in."""
    direct = StepHandlerResult(is_success=False, error_type=ErrorType.TIMEOUT)

    assert type(direct.error_type) is str
    assert type(StepHandlerResult.failure("x", ErrorType.TIMEOUT).error_type) is str
    assert StepHandlerResult.failure("x", "out_of_stock").error_type == "out_of_stock"


def test_success_without_a_result_is_the_empty_object():
    """Nothing to say is `{}`, never None."""
    assert StepHandlerResult.success().result == {}
    assert StepHandlerResult.success(None).result == {}


@pytest.mark.parametrize("wrong", [[1, 2], "text", 3, {1, 2}])
def test_a_result_that_is_no_object_is_refused(wrong: Any):
    """Lists and scalars are refused where they are made, not when they are stored."""
    with pytest.raises(pydantic.ValidationError):
        StepHandlerResult.success(wrong)


def test_metadata_is_copied():
    """Later changes to the caller's own dict do not reach the result."""
    facts = {"a": 1}
    done = StepHandlerResult.success({}, facts)
    failed = StepHandlerResult.failure("x", metadata=facts)
    facts["b"] = 2

    assert done.metadata == failed.metadata == {"a": 1}


@pytest.mark.parametrize("key", ["success", "is_success"])
@pytest.mark.parametrize("value", [True, False])
def test_results_survive_copies(key: str, value: bool):
    """Reading, dumping, copying and pickling keep the outcome, under both of its names."""
    result = StepHandlerResult.model_validate({key: value, "result": {"a": [1]}})

    assert result.model_dump()["is_success"] is value
    assert result.model_dump(by_alias=True)["success"] is value
    for copy in (
        pickle.loads(pickle.dumps(result)),
        result.model_copy(),
        result.model_copy(deep=True),
        StepHandlerResult.model_validate(result.model_dump()),
        StepHandlerResult.model_validate_json(result.model_dump_json(by_alias=True)),
    ):
        assert copy == result
        assert copy.success is value


def test_factories_of_a_subclass_make_the_subclass():
    """Both factories stay with the class that they are called on."""

    class Receipt(StepHandlerResult):
        pass

    assert type(Receipt.success()) is Receipt
    assert type(Receipt.failure("x")) is Receipt
    assert Receipt.success().success is True


def test_error_types_know_which_are_standard_and_which_pass():
    """Only two labels usually pass by themselves; other strings are not standard."""
    passing = {label for label in ErrorType if ErrorType.is_typically_retryable(label)}

    assert passing == {ErrorType.RETRYABLE_ERROR, ErrorType.TIMEOUT}
    assert all(ErrorType.is_standard(label.value) for label in ErrorType)
    assert not ErrorType.is_standard("out_of_stock")


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({}, None),
        ({"retry_after_seconds": 2}, 2.0),
        ({"retry_after": 0}, 0.0),
        ({"retry_after_seconds": 1.5, "retry_after": 9}, 1.5),
        ({"retry_after_seconds": "soon", "retry_after": 9}, 9.0),
    ],
)
def test_the_rest_is_read_from_the_metadata(metadata: dict[str, Any], seconds: float | None):
    """`retry_after_seconds` goes before `retry_after`; what is not a number is passed over."""
    assert StepHandlerResult.failure("x", metadata=metadata).retry_after_seconds == seconds


@given(st.none() | st.booleans() | st.text() | st.floats() | st.integers() | st.just(10**400))
def test_the_rest_is_finite_and_not_negative(value: Any):
    """Whatever a handler puts there, the engine sees a usable number or None."""
    seconds = StepHandlerResult.failure("x", metadata={"retry_after": value}).retry_after_seconds

    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


# --- what is returned ---------------------------------------------------------------


class Cart(pydantic.BaseModel):
    total: float
    at: datetime


@dataclass
class Line:
    sku: str


@dataclass
class Order:
    lines: list[Line]


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ({7: "seven"}, {7: "seven"}),
        (UserDict(a=1), {"a": 1}),
        (
            Cart(total=1.5, at=datetime(2025, 1, 2, tzinfo=UTC)),
            {"total": 1.5, "at": "2025-01-02T00:00:00Z"},
        ),
        (Order([Line("a")]), {"lines": [{"sku": "a"}]}),
        ([1, 2], {"result": [1, 2]}),
        ("text", {"result": "text"}),
        (0, {"result": 0}),
        (pydantic.RootModel[list[int]]([1]), {"result": [1]}),
        (Cart, {"result": Cart}),
    ],
)
def test_plain_values_are_results(value: Any, result: dict[Any, Any]):
    """Objects are the result itself, other values are its field `result`."""
    outcome = result_from_return(value)

    assert outcome.success is True
    assert outcome.result == result


def test_a_result_is_taken_as_it_is():
    """A returned `StepHandlerResult` is not touched."""
    result = StepHandlerResult.failure("x")

    assert result_from_return(result) is result


@given(json_values)
def test_no_value_gets_lost(value: Any):
    """Any JSON value comes back out of the result that it became."""
    outcome = result_from_return(value)

    assert outcome.success is True
    if isinstance(value, dict):
        assert outcome.result == value
    else:
        assert outcome.result == ({} if value is None else {"result": value})


# --- what is raised -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "error_type", "retryable"),
    [
        (errors.PermanentError("x"), "permanent_error", False),
        (errors.PermanentError("x", retryable=True), "permanent_error", True),
        (errors.BusinessLogicError("x"), "permanent_error", False),
        (errors.ValidationError("x"), "validation_error", False),
        (errors.RetryableError("x"), "retryable_error", True),
        (errors.TimeoutError("x"), "timeout", True),
        (errors.RetryableError("x", error_type="busy"), "busy", True),
        (errors.StepExecutionError("x"), "step_execution_error", True),
        (errors.StepExecutionError("x", "fraud", False), "fraud", False),
        (errors.TaskerError("x"), "handler_error", True),
        (errors.NotStorable("/a", "is NaN"), "handler_error", False),
        (FileNotFoundError("x"), "permanent_error", False),
        (IsADirectoryError("x"), "permanent_error", False),
        (NotADirectoryError("x"), "permanent_error", False),
        (PermissionError("x"), "permanent_error", False),
        (ConnectionResetError("x"), "retryable_error", True),
        (OSError("x"), "retryable_error", True),
        (TimeoutError("x"), "timeout", True),
        (httpx.ConnectError("x"), "retryable_error", True),
        (httpx.ReadTimeout("x"), "timeout", True),
        (httpx.InvalidURL("x"), "handler_error", True),
        (ValueError("x"), "handler_error", True),
        (RuntimeError("x"), "handler_error", True),
        (SystemExit(3), "handler_error", False),
        (KeyboardInterrupt(), "handler_error", False),
        (asyncio.CancelledError(), "handler_error", True),
    ],
)
def test_errors_are_sorted_by_their_family(error: BaseException, error_type: str, retryable: bool):
    """The family decides on label and retry; `ValueError` and its like are tried again."""
    result = result_from_exception(error)

    assert result.success is False
    assert (result.error_type, result.retryable) == (error_type, retryable)


def test_taskers_own_errors_keep_their_facts():
    """Code, metadata and the wished rest arrive with the result."""
    error = errors.RateLimitError(
        "slow down", error_code="LIMIT", retry_after=30, metadata={"quota": 5}
    )

    result = result_from_exception(error)

    assert result.error_message == "slow down"
    assert result.error_code == "LIMIT"
    assert result.metadata["quota"] == 5
    assert result.retry_after_seconds == 30.0


def test_an_error_that_forgot_its_base_is_still_read():
    """A subclass that does not call `super().__init__` has its family's answers."""

    class Declined(errors.PermanentError):
        def __init__(self, card: str) -> None:
            self.card = card

    result = result_from_exception(Declined("4242"))

    assert (result.error_type, result.retryable) == ("permanent_error", False)
    assert result.error_message == "4242"


def test_other_errors_keep_class_and_traceback():
    """What nobody expected is recorded whole."""
    try:
        {}["sku"]
    except KeyError as exc:
        result = result_from_exception(exc)

    assert result.error_message == "KeyError: 'sku'"
    assert result.metadata["exception_type"] == "KeyError"
    assert '{}["sku"]' in result.metadata["traceback"]


def test_validation_errors_name_the_places():
    """The message has every place and reason, and no web addresses."""
    with pytest.raises(pydantic.ValidationError) as caught:
        Cart.model_validate({"total": "much"})

    result = result_from_exception(caught.value)

    assert (result.error_type, result.retryable) == ("validation_error", False)
    assert result.error_message is not None
    assert "total: Input should be a valid number" in result.error_message
    assert "at: Field required" in result.error_message
    assert "http" not in result.error_message


def test_a_group_of_one_is_read_as_the_one():
    """An error that a task group has wrapped keeps its meaning; of several none decides."""
    wrapped = ExceptionGroup("tasks", [ExceptionGroup("inner", [errors.PermanentError("no")])])
    several = ExceptionGroup("tasks", [errors.PermanentError("no"), ValueError("x")])

    assert result_from_exception(wrapped).error_message == "no"
    assert result_from_exception(wrapped).retryable is False
    assert result_from_exception(several).metadata["exception_type"] == "ExceptionGroup"


def test_an_error_without_words_is_named():
    """An empty message says nothing, the class says a little."""
    assert result_from_exception(ValueError()).error_message == "ValueError"


def test_an_error_that_cannot_be_printed_is_still_a_result():
    """Reading an error never raises."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert "Mute" in (result_from_exception(Mute()).error_message or "")


@given(st.text(alphabet=st.characters(), max_size=20), st.integers(1, 40_000))
def test_messages_and_tracebacks_can_be_stored_and_are_bounded(text: str, times: int):
    """Any message is stored, shortened if need be, and does not push the frames out."""
    try:
        raise ValueError(text * times)
    except ValueError as exc:
        result = result_from_exception(exc)

    kept = result.metadata["traceback"]
    assert len(kept) <= MAX_TRACEBACK + 100
    assert "raise ValueError(text * times)" in kept
    for written in (kept, result.error_message or ""):
        assert "\x00" not in written
        written.encode()


def test_a_long_traceback_keeps_its_innermost_frames():
    """What is left out is where the call came from, not where it failed."""

    def even(n: int) -> None:
        odd(n - 1)

    def odd(n: int) -> None:
        if n <= 0:
            raise ValueError("bottom")
        even(n - 1)

    with pytest.raises(ValueError, match="bottom") as caught:
        even(400)

    kept = result_from_exception(caught.value).metadata["traceback"]
    assert kept.startswith("(outer frames left out)")
    assert 'raise ValueError("bottom")' in kept
    assert kept.endswith("ValueError: bottom\n")


# --- checkpoints ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        StepHandlerResult.success({"cursor": 3}),
        StepHandlerResult.success({"cursor": 3}, {"checkpoint_yield": "yes"}),
        StepHandlerResult.success({"cursor": 3}, {"checkpoint_yield": 1}),
        StepHandlerResult.failure("x", metadata={"checkpoint_yield": True}),
    ],
)
def test_only_a_yield_has_a_checkpoint(result: StepHandlerResult):
    """Nothing that looks like one, and no failure."""
    assert result.checkpoint is None


def test_a_yield_says_where_to_go_on():
    """What was gathered comes along if there is any."""
    facts = {"checkpoint_yield": True}
    bare = StepHandlerResult.success({"cursor": 0, "items_processed": 3}, facts)
    full = StepHandlerResult.success(
        {"cursor": None, "items_processed": 3, "accumulated_results": {}}, facts
    )

    assert bare.checkpoint == {"cursor": 0, "items_processed": 3}
    assert full.checkpoint == {"cursor": None, "items_processed": 3, "accumulated_results": {}}
