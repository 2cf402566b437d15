"""Moments and texts as they are written in JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, WithJsonSchema


def write_moment(moment: datetime) -> str:
    """Write a moment as RFC 3339, in UTC, with microseconds.

    >>> write_moment(datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    '2026-01-02T03:04:00.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Moment = Annotated[
    datetime,
    PlainSerializer(write_moment, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("has a NUL character, which PostgreSQL cannot hold")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]


def any_of(**kinds: Any) -> dict[str, Any]:
    """Say in a schema that at least one of these members is there, and is like this.

    >>> any_of(where={"type": "object"})
    {'anyOf': [{'required': ['where'], 'properties': {'where': {'type': 'object'}}}]}
    """
    return {
        "anyOf": [{"required": [name], "properties": {name: kind}} for name, kind in kinds.items()]
    }


class Request(BaseModel):
    """What a caller sends. Members that are not known are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Answer(BaseModel):
    """What the server sends. Members may be added, so readers ignore what they do not know."""

    model_config = ConfigDict(extra="ignore")
