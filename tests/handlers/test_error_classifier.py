"""Which errors pass by themselves, by rules that can be asked for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pydantic
import pytest

from tasker_core import errors
from tasker_core.errors import error_classifier
from tasker_core.errors.error_classifier import (
    ErrorClassifier,
    get_classifier,
    is_permanent,
    is_retryable,
)

RETRYABLE: list[BaseException] = [
    ConnectionResetError(),
    BrokenPipeError(),
    BlockingIOError(),
    InterruptedError(),
    OSError("disk"),
    TimeoutError(),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
]
PERMANENT: list[BaseException] = [
    ValueError(),
    TypeError(),
    KeyError(),
    AttributeError(),
    IndexError(),
    AssertionError(),
    SyntaxError(),
    NameError(),
    ImportError(),
    NotImplementedError(),
    FileNotFoundError(),
    IsADirectoryError(),
    NotADirectoryError(),
    PermissionError(),
    json.JSONDecodeError("bad", "", 0),
    KeyboardInterrupt(),
    SystemExit(),
    asyncio.CancelledError(),
]


class Model(pydantic.BaseModel):
    a: int


def classification(exc: BaseException) -> str:
    return ErrorClassifier().classify(exc)["classification"]


@pytest.mark.parametrize("exc", RETRYABLE, ids=lambda e: type(e).__name__)
def test_what_passes_is_retryable(exc: BaseException):
    """The network, the disk, and time."""
    assert is_retryable(exc)
    assert not is_permanent(exc)
    assert classification(exc) == "retryable_class"


@pytest.mark.parametrize("exc", PERMANENT, ids=lambda e: type(e).__name__)
def test_what_stays_is_permanent(exc: BaseException):
    """Mistakes, missing files, and what stops a process."""
    assert is_permanent(exc)
    assert not is_retryable(exc)
    assert classification(exc) == "permanent_class"


def test_wrong_data_is_permanent():
    """pydantic's errors are `ValueError`s."""
    with pytest.raises(pydantic.ValidationError) as raised:
        Model.model_validate({})

    assert is_permanent(raised.value)


@pytest.mark.parametrize("retryable", [True, False])
def test_errors_that_say_it_themselves_are_believed(retryable: bool):
    """Tasker's own, and any other with an attribute `retryable`."""

    class Own(Exception):
        pass

    own = Own()
    own.retryable = retryable  # type: ignore[attr-defined]
    tasker = errors.PermanentError("x", retryable=retryable)

    for exc in (own, tasker):
        found = ErrorClassifier().classify(exc)
        assert found == {
            "error_type": type(exc).__name__,
            "retryable": retryable,
            "classification": "explicit_attribute",
        }


@pytest.mark.parametrize("default", [True, False])
def test_other_errors_take_the_default(default: bool):
    """Nobody knows of a `RuntimeError`."""
    classifier = ErrorClassifier(default_retryable=default)

    assert classifier.retryable(RuntimeError()) is default
    assert classifier.permanent(RuntimeError()) is not default
    assert classifier.classify(RuntimeError())["classification"] == "default"


def test_there_is_one_classifier_for_all(monkeypatch: Any):
    """Made when it is first asked for."""
    monkeypatch.setattr(error_classifier, "_default_classifier", None)

    assert get_classifier() is get_classifier()
    assert get_classifier().default_retryable is True
