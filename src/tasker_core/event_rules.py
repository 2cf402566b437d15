"""The rules of domain events that every room shares: ids, conditions, schemas.

An event is declared by a step, made by whoever ends an attempt of it, and recorded with
the outcome if the outcome meets its condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

BY_HAND = 0  # the attempt of an event that an operator's action publishes

_MAY_FOLLOW = {
    "success": (True,),
    "failure": (False,),
    "retryable_failure": (False,),
    "permanent_failure": (False,),
    "always": (True, False),
}


def event_uuid(step_uuid: UUID, attempt: int, name: str) -> UUID:
    """Give the id of an event: the same whoever computes it, and however often.

    It is the first 16 bytes of SHA-256 over the step's id and `attempt:name`, marked as a
    UUID of version 8. `tasker.event_uuid` computes the same.

    Args:
        step_uuid: The step's.
        attempt: The execution, counted from 1; an operator's reset does not begin anew.
        name: The event's.

    Source: RFC 9562, section 5.8.

    >>> event_uuid(UUID("01920000-0000-7000-8000-000000000003"), 1, "payment.charged").version
    8
    """
    digest = sha256(step_uuid.bytes + f"{attempt}:{name}".encode()).digest()[:16]
    number = int.from_bytes(digest)
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return UUID(int=number)


def may_be_due(condition: str | None, success: bool) -> bool:
    """Say whether an attempt that ended like this may meet a condition; None is success."""
    return success in _MAY_FOLLOW.get(condition or "success", ())


def is_due(condition: str | None, success: bool, will_retry: bool) -> bool:
    """Say whether an outcome meets a condition.

    >>> is_due("retryable_failure", False, will_retry=True), is_due(None, False, True)
    (True, False)
    """
    exact = {"retryable_failure": will_retry, "permanent_failure": not will_retry}
    return may_be_due(condition, success) and exact.get(condition or "success", True)


def is_durable(delivery_mode: str | None) -> bool:
    """Say whether an event goes through the outbox; None is durable."""
    return (delivery_mode or "durable") in ("durable", "broadcast")


def payload_faults(payload: Any, schema: Mapping[str, Any] | None) -> list[str]:
    """Say what keeps a payload from fitting its schema; nothing if it fits.

    Raises:
        ValueError: The schema is none.
    """
    if not schema:
        return []
    validator = _validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))
    return [
        f"/{'/'.join(map(str, fault.instance_path))}: {fault.message}"
        for fault in validator.iter_errors(payload)
    ]


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(orjson.loads(schema))
