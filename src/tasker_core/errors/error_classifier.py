"""Which errors pass by themselves, for code that has to decide that by hand.

Handlers need not ask: whatever they raise is read by `result_from_exception`.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypedDict

from tasker_core.errors import PermanentError, RetryableError

PERMANENT_OS_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class Classification(TypedDict):
    """What the classifier says of an error, and why."""

    error_type: str  # the name of its class
    retryable: bool
    classification: Literal["explicit_attribute", "permanent_class", "retryable_class", "default"]


class ErrorClassifier:
    """Sorts errors into those that pass and those that stay.

    An error with an attribute `retryable` is believed. Otherwise its class decides:
    the permanent ones go first, so a missing file is permanent though it is an
    `OSError`. httpx's transport errors pass. Exceptions that are no `Exception`, such
    as `KeyboardInterrupt`, are never retryable.

    Args:
        default_retryable: What holds for an error that no rule knows.

    >>> ErrorClassifier().classify(ConnectionResetError())["classification"]
    'retryable_class'
    >>> ErrorClassifier().permanent(FileNotFoundError())
    True
    """

    PERMANENT_ERROR_CLASSES: ClassVar[tuple[type[BaseException], ...]] = (
        PermanentError,
        *PERMANENT_OS_ERRORS,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        AssertionError,
        SyntaxError,
        NameError,
        ImportError,
        NotImplementedError,
    )
    RETRYABLE_ERROR_CLASSES: ClassVar[tuple[type[BaseException], ...]] = (
        RetryableError,
        ConnectionError,
        BrokenPipeError,
        BlockingIOError,
        InterruptedError,
        OSError,  # built-in TimeoutError, too
    )

    def __init__(self, *, default_retryable: bool = True) -> None:
        self.default_retryable = default_retryable

    def retryable(self, exc: BaseException) -> bool:
        """Say whether trying again may help."""
        return self.classify(exc)["retryable"]

    def permanent(self, exc: BaseException) -> bool:
        """Say whether trying again cannot help."""
        return not self.retryable(exc)

    def classify(self, exc: BaseException) -> Classification:
        """Say whether trying again may help, and by which rule."""
        name = type(exc).__name__
        explicit = getattr(exc, "retryable", None)
        if explicit is not None:
            return Classification(
                error_type=name, retryable=bool(explicit), classification="explicit_attribute"
            )
        if isinstance(exc, self.PERMANENT_ERROR_CLASSES) or not isinstance(exc, Exception):
            return Classification(
                error_type=name, retryable=False, classification="permanent_class"
            )
        if isinstance(exc, self.RETRYABLE_ERROR_CLASSES) or is_httpx(exc, "TransportError"):
            return Classification(error_type=name, retryable=True, classification="retryable_class")
        return Classification(
            error_type=name, retryable=self.default_retryable, classification="default"
        )


_default_classifier: ErrorClassifier | None = None


def get_classifier() -> ErrorClassifier:
    """Give the classifier that `is_retryable` and `is_permanent` ask."""
    global _default_classifier
    if _default_classifier is None:
        _default_classifier = ErrorClassifier()
    return _default_classifier


def is_retryable(exc: BaseException) -> bool:
    """Say whether trying again may help."""
    return get_classifier().retryable(exc)


def is_permanent(exc: BaseException) -> bool:
    """Say whether trying again cannot help."""
    return get_classifier().permanent(exc)


def is_httpx(exc: BaseException, name: str) -> bool:
    """Know httpx's errors by name, so that nobody has to import httpx for this."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == "httpx"
        for kind in type(exc).__mro__
    )
