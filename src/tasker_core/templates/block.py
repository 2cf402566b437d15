"""Read one mapping of a document, key by key, and say what is wrong with each.

`shape` knows which keys there are; this module knows kinds of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from tasker_core.templates.document import Path
from tasker_core.templates.findings import Findings, did_you_mean, shown
from tasker_core.templates.inputs import compile_schema


def keys(words: str) -> frozenset[str]:
    """Give the keys that may stand in one mapping."""
    return frozenset(words.split())


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which numbers a value must lie, and between which it better does."""

    code: str
    low: float
    high: float
    advised: tuple[float, float] | None = None
    whole: bool = True


class Block:
    """One mapping while it is read.

    Every method reads one key and gives its value; None when the key is absent,
    null, or wrong (which it then reports).

    Args:
        value: What the document has; None reads as an empty mapping.
        keys: The keys that may stand here.
        elsewhere: Known keys of other blocks, and where they belong.
        bare: The key that is meant when there is only text.
    """

    def __init__(
        self,
        value: Any,
        path: Path,
        findings: Findings,
        keys: frozenset[str],
        elsewhere: Mapping[str, str] | None = None,
        bare: str | None = None,
    ) -> None:
        self.path = path
        self.findings = findings
        self.readable = value is None or isinstance(value, dict)
        self.values: dict[str, Any] = value if isinstance(value, dict) else {}
        if not self.readable:
            hint = f"write {{{bare}: {value}}}" if bare and isinstance(value, str) else None
            self.bad("", value, "a mapping of keys to values", hint)
        for key in self.values:
            if key in keys or key.startswith("x-"):  # x-: a place for anchors
                continue
            belongs = (elsewhere or {}).get(key)
            hint = f"it belongs in {belongs}" if belongs else did_you_mean(key, sorted(keys))
            self.findings.warning(
                "UNKNOWN_KEY",
                (*path, key),
                f"the key {shown(key)} means nothing here and is ignored",
                hint or "known here: " + ", ".join(sorted(keys)),
                at_key=True,
            )

    def has(self, key: str) -> bool:
        """Tell whether the key is there, and not null."""
        return self.values.get(key) is not None

    def at(self, key: str | int) -> Path:
        return (*self.path, key)

    def bad(self, key: str, value: Any, must: str, hint: str | None = None) -> None:
        """Report a value of the wrong kind; the empty key is the block itself."""
        last = self.path[-1] if self.path else "the template"
        name = key or (last if isinstance(last, str) else "this item")
        path = self.at(key) if key else self.path
        self.findings.error(
            "BAD_VALUE", path, f"{name} is {shown(value)}, but must be {must}", hint
        )

    def text(self, key: str, longest: int | None = None) -> str | None:
        """Read text of at least one character."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            written = self.findings.written(self.at(key))
            self.bad(key, value, "text", f'write {key}: "{written}"' if written else None)
            return None
        if longest is not None and not 1 <= len(value) <= longest:
            self.bad(key, value, f"1 to {longest} characters long, not {len(value)}")
            return None
        return value

    def flag(self, key: str) -> bool | None:
        """Read true or false."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            hint = None
            if isinstance(value, str):
                meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}
                hint = f"write {meant.get(value.lower(), value.lower())}, without quotes"
            self.bad(key, value, "true or false", hint)
            return None
        return value

    def number(self, key: str, bounds: Bounds) -> Any:
        """Read a number within its bounds; outside the advised ones it is a warning."""
        value = self.values.get(key)
        if value is None:
            return None
        kind = int if bounds.whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind):
            hint = None
            if isinstance(value, str) and value.strip().isdigit():
                hint = f"write {value.strip()}, without quotes"
            self.bad(key, value, "a whole number" if bounds.whole else "a number", hint)
            return None
        if not bounds.low <= value <= bounds.high:
            message = f"{key} is {value}, but must be {bounds.low} to {bounds.high}"
            self.findings.error(bounds.code, self.at(key), message)
            return None
        low, high = bounds.advised or (bounds.low, bounds.high)
        if not low <= value <= high:
            message = f"{key} is {value}; {low} to {high} is advised"
            self.findings.warning(bounds.code, self.at(key), message)
        return value

    def choice(self, key: str, options: tuple[str, ...]) -> str | None:
        """Read one of a few words."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or value not in options:
            hint = did_you_mean(value.lower(), options) if isinstance(value, str) else None
            self.bad(key, value, "one of " + ", ".join(options), hint)
            return None
        return value

    def mapping(self, key: str) -> dict[str, Any] | None:
        """Read a mapping whose keys are the author's own."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self.bad(key, value, "a mapping")
            return None
        return value

    def items(self, key: str) -> list[Any]:
        """Read a list; empty when absent."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            hint = f"write {key}: [{value}]" if isinstance(value, str) else None
            self.bad(key, value, "a list", hint)
            return []
        return value

    def texts(self, key: str) -> list[str]:
        """Read a list of text."""
        found = []
        for index, item in enumerate(self.items(key)):
            if isinstance(item, str) and item:
                found.append(item)
            else:
                path = (*self.at(key), index)
                self.findings.error(
                    "BAD_VALUE", path, f"this item of {key} is {shown(item)}, but must be text"
                )
        return found

    def block(self, key: str, keys: frozenset[str], *, bare: str | None = None) -> Block:
        """Read a mapping with known keys; an empty one when absent."""
        return Block(self.values.get(key), self.at(key), self.findings, keys, bare=bare)

    def blocks(
        self, key: str, keys: frozenset[str], elsewhere: Mapping[str, str] | None = None
    ) -> list[Block]:
        """Read a list of mappings with known keys."""
        return [
            Block(item, (*self.at(key), index), self.findings, keys, elsewhere)
            for index, item in enumerate(self.items(key))
        ]

    def schema(self, key: str, code: str = "SCHEMA_INVALID") -> dict[str, Any] | None:
        """Read a JSON Schema that stands on its own: references stay inside it."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            message = f"{key} is {shown(value)}, but must be a JSON Schema"
            self.findings.error(code, self.at(key), message, "for example {type: object}")
            return None
        try:
            compile_schema(value)
        except jsonschema_rs.ValidationError as error:
            inner = tuple(error.instance_path)
            message = f"{key} is not a valid JSON Schema: {error.message[:200]}"
            self.findings.error(code, (*self.at(key), *inner), message)
            return None
        except ValueError as error:
            message = f"{key} is not a valid JSON Schema: {str(error)[:200]}"
            self.findings.error(code, self.at(key), message)
            return None
        return value
