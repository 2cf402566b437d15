"""Messages ↔ the documents of the HTTP API, field by field under the same name.

A word of an enum is `complete` there and `TASK_STATE_COMPLETE` here. Numbers in a Struct are
doubles: whole ones become integers again as far as a double counts exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

Document = Mapping[str, Any]

EXACT = 2**53  # up to here a double has every integer

_TIMESTAMP = "google.protobuf.Timestamp"
_STRUCT = "google.protobuf.Struct"
_VALUE = "google.protobuf.Value"


def read(message: Any) -> dict[str, Any]:
    """Read a message as a document; what is not set is left out.

    Raises:
        ValueError: It has a number that JSON has not, or a moment that is none.
    """
    return {
        field.name: (
            [_read(field, one) for one in value] if field.is_repeated else _read(field, value)
        )
        for field, value in message.ListFields()
    }


def fill(message: Any, document: Document) -> Any:
    """Write a document into a message; members that it has no field for are left out."""
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in document.items():
        if value is None or (field := fields.get(name)) is None:
            continue
        if field.is_repeated:
            _fill_many(field, getattr(message, name), value)
        elif field.message_type is not None:
            part = getattr(message, name)
            part.SetInParent()
            _fill_part(field, part, value)
        else:
            setattr(message, name, _scalar(field, value))
    return message


# --- helpers --------------------------------------------------------------------------


def _read(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        found = field.enum_type.values_by_number.get(value)
        # of a number that is no word, the number: the API says what it knows
        return str(value) if not value or found is None else _word(field.enum_type, found.name)
    if field.message_type is None:
        return value
    kind = _kind(field)
    if kind == _TIMESTAMP:
        return value.ToJsonString()
    if kind == _STRUCT:
        return _members(value)
    return _json(value) if kind == _VALUE else read(value)


def _members(struct: Any) -> dict[str, Any]:
    return {name: _json(value) for name, value in struct.fields.items()}


def _json(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _members(value.struct_value)
    if kind == "list_value":
        return [_json(one) for one in value.list_value.values]
    if kind == "number_value":
        return _number(value.number_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def _number(number: float) -> int | float:
    if not math.isfinite(number):
        raise ValueError(f"{number} is no number in JSON")
    is_exact = number.is_integer() and abs(number) <= EXACT
    return int(number) if is_exact else number


def _fill_many(field: FieldDescriptor, target: Any, value: Any) -> None:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        of = entry.fields_by_name["value"]
        for key, one in value.items():
            if of.message_type is None:
                target[key] = one
            else:
                _fill_part(of, target[key], one)
    elif entry is not None:
        for one in value:
            _fill_part(field, target.add(), one)
    else:
        target.extend(_scalar(field, one) for one in value)


def _fill_part(field: FieldDescriptor, part: Any, value: Any) -> None:
    kind = _kind(field)
    if kind == _TIMESTAMP:
        part.FromJsonString(value)
    elif kind == _STRUCT:
        _fill_struct(part, value)
    elif kind == _VALUE:
        _fill_json(part, value)
    else:
        fill(part, value)


def _fill_struct(struct: Any, value: Document) -> None:
    for name, one in value.items():
        _fill_json(struct.fields[name], one)


def _fill_json(target: Any, value: Any) -> None:
    if value is None:
        target.null_value = 0
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, (int, float)):
        target.number_value = float(value)
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        _fill_struct(target.struct_value, value)
    else:
        _fill_list(target.list_value, value)


def _fill_list(target: Any, values: Iterable[Any]) -> None:
    target.SetInParent()
    for one in values:
        _fill_json(target.values.add(), one)


def _kind(field: FieldDescriptor) -> str | None:
    return None if field.message_type is None else field.message_type.full_name


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is None:
        return value
    found = field.enum_type.values_by_name.get(_prefix(field.enum_type) + str(value).upper())
    return 0 if found is None else found.number


def _word(enum: EnumDescriptor, name: str) -> str:
    return name.removeprefix(_prefix(enum)).lower()


def _prefix(enum: EnumDescriptor) -> str:
    return str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")
