"""Any error becomes one message and the exit code for it."""

from __future__ import annotations

import pytest
import typer

from tasker_core import errors
from tasker_core.cli.failures import WaitedTooLong, describe
from tasker_core.client import (
    TaskerClientError,
    TaskerConnectionError,
    TaskNotFoundError,
    TaskValidationError,
)
from tasker_core.server.run import AddressUnavailable

FINDING = errors.Finding("CYCLE_DETECTED", errors.Severity.ERROR, "a ring", "a.yaml", 3)


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (typer.BadParameter("wrong"), 2, "usage_error"),
        (errors.InvalidTemplate([FINDING]), 3, "invalid_template"),
        (errors.InvalidSettings(["one"]), 3, "invalid_settings"),
        (errors.UnknownTemplate("shop", "order", None), 4, "unknown_template"),
        (TaskNotFoundError("none", status_code=404), 4, "client_not_found"),
        (TaskerClientError("who?", status_code=401), 5, "client_error"),
        (TaskerClientError("no", status_code=403), 5, "client_error"),
        (TaskerConnectionError("http://h", "refused"), 6, "client_connection"),
        (TaskerClientError("busy", status_code=503), 6, "client_error"),
        (errors.DatabaseUnreachable("postgresql://h", "refused"), 6, "database_unreachable"),
        (WaitedTooLong("T", 3, "steps_in_process"), 6, "wait_timeout"),
        (TaskerClientError("broken", status_code=500), 1, "client_error"),
        (errors.SchemaOutOfDate(1, 2), 1, "schema_out_of_date"),
        (AddressUnavailable("127.0.0.1", 80, "in use"), 1, "address_unavailable"),
        (OSError(28, "No space left on device"), 1, "system_error"),
        (KeyError("x"), 1, "internal_error"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (typer.Abort(), 130, "interrupted"),
    ],
)
def test_every_error_has_its_exit_code(error, exit_code, code):
    """The codes are a contract."""
    failure = describe(error)
    assert (failure.exit_code, failure.code) == (exit_code, code)
    assert failure.message


def test_the_server_s_own_code_is_given():
    """With everything that it said, and each wrong place on a line of its own."""
    failure = describe(
        TaskValidationError(
            "the context does not fit",
            status_code=422,
            details={
                "code": "VALIDATION_ERROR",
                "errors": [{"pointer": "/items/0", "message": "is no object", "kind": "type"}],
            },
        )
    )
    assert (failure.exit_code, failure.code) == (1, "VALIDATION_ERROR")
    assert failure.message == "the context does not fit\n  /items/0: is no object"
    assert failure.details["status"] == 422


def test_no_server_says_what_to_start():
    """And where it looked."""
    failure = describe(TaskerConnectionError("http://localhost:8080", "Connection refused"))
    assert failure.message == "no server answers at http://localhost:8080: Connection refused"
    assert failure.hint is not None
    assert "tasker-ctl dev" in failure.hint
