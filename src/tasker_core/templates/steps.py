"""Turn each step of a document into its part of the definition, see `shape`."""

from __future__ import annotations

import re
from typing import Any

from tasker_core.templates.block import Block, Bounds, keys
from tasker_core.templates.document import Path
from tasker_core.templates.findings import Findings, shown

STEP_KEYS = keys(
    "name description handler type step_type system_dependency dependencies depends_on retry "
    "timeout_seconds publishes_events batch_config result_schema result_validation composition "
    "consumes"
)
HANDLER_KEYS = keys("callable method resolver initialization")
RETRY_KEYS = keys(
    "retryable max_attempts backoff backoff_base_ms max_backoff_ms limit initial_delay max_delay"
)
BATCH_KEYS = keys("batch_size parallelism cursor_field worker_template failure_strategy")
EVENT_KEYS = keys("name description schema condition delivery_mode publisher")
OVERRIDE_KEYS = keys("name handler timeout_seconds retry")
OVERRIDE_HANDLER_KEYS = frozenset({"initialization"})

# Keys that are often written one level too high, and where they belong.
IN_STEP = {
    **dict.fromkeys(HANDLER_KEYS, "handler"),
    **dict.fromkeys(RETRY_KEYS, "retry"),
    **dict.fromkeys(BATCH_KEYS, "batch_config"),
    "lifecycle": "the template, outside of steps",
}

STEP_TYPES = ("standard", "decision", "deferred_convergence", "batchable", "batch_worker")
BACKOFFS = ("none", "linear", "exponential", "fibonacci")
VALIDATIONS = ("off", "warn", "enforce")

_INT4 = 2_147_483_647
TIMEOUT = Bounds("TIMEOUT_RANGE", 0.001, 86_400, advised=(1, 3600), whole=False)
ATTEMPTS = Bounds("RETRY_RANGE", 0, 100, advised=(1, 100))
BASE_MS = Bounds("RETRY_RANGE", 0, _INT4, advised=(100, 3_600_000))
MAX_MS = Bounds("RETRY_RANGE", 0, _INT4, advised=(1000, 3_600_000))

NAME = re.compile(r"[a-z][a-z0-9_]*")
EVENT_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
PUBLISHER = re.compile(r"[A-Za-z_]\w*((\.|::)[A-Za-z_]\w*)*", re.ASCII)


def read_step(block: Block) -> dict[str, Any]:
    if not block.readable:
        return {}
    events = [_event(event) for event in block.blocks("publishes_events", EVENT_KEYS)]
    check_repeats(block.findings, "publishes_events", block.at("publishes_events"), events)
    composition = block.mapping("composition")
    if composition is not None:
        block.findings.warning(
            "COMPOSITION_UNSUPPORTED",
            block.at("composition"),
            "composition is kept, but nothing runs it",
            "write a handler for this step",
            at_key=True,
        )
    return given(
        name=read_name(block, "a step"),
        description=block.text("description"),
        type=unless(_type(block), "standard"),
        handler=_handler(block),
        dependencies=_dependencies(block),
        retry=_retry(block),
        timeout_seconds=block.number("timeout_seconds", TIMEOUT),
        system_dependency=block.text("system_dependency"),
        batch_config=_batch_config(block),
        publishes_events=last_of_each(events),
        result_schema=object_schema(block, "result_schema"),
        result_validation=block.choice("result_validation", VALIDATIONS),
        composition=composition,
        consumes=_consumes(block),
    )


def _type(block: Block) -> str | None:
    if block.has("step_type"):
        _deprecated(block, "step_type", "type")
        if not block.has("type"):
            return block.choice("step_type", STEP_TYPES)
    return block.choice("type", STEP_TYPES)


def _handler(block: Block) -> dict[str, Any]:
    handler = block.block("handler", HANDLER_KEYS, bare="callable")
    code = handler.values.get("callable")
    if handler.readable and (code is None or (isinstance(code, str) and not code.strip())):
        path = handler.at("callable") if "callable" in handler.values else block.path
        block.findings.error(
            "EMPTY_CALLABLE",
            path,
            "the step names no code to run",
            "write handler: {callable: the_name_of_your_handler}",
        )
        code = None
    return {
        "callable": handler.text("callable", 500) if code is not None else "",
        **given(
            method=unless(handler.text("method", 255), "call"),
            resolver=handler.text("resolver", 255),
            initialization=handler.mapping("initialization"),
        ),
    }


def _dependencies(block: Block) -> list[str]:
    if block.has("dependencies") and block.has("depends_on"):
        block.findings.error(
            "BOTH_DEPENDENCY_KEYS",
            block.at("depends_on"),
            "dependencies and depends_on are two words for the same: give one",
            "move everything into dependencies",
            at_key=True,
        )
    key = "depends_on" if not block.has("dependencies") else "dependencies"
    names = block.texts(key)
    if len(set(names)) < len(names):
        seen: set[Any] = set()
        for index, name in enumerate(block.values[key]):
            if isinstance(name, str) and name in seen:
                path = (*block.at(key), index)
                message = f"the dependency {shown(name)} is written twice"
                block.findings.warning("DUPLICATE_DEPENDENCY", path, message, "leave it out")
            elif isinstance(name, str):
                seen.add(name)
    return list(dict.fromkeys(names))


def _retry(block: Block, *, keep_defaults: bool = False) -> dict[str, Any]:
    """Read `retry`. An override keeps what equals a default: it may overrule the step."""
    retry = block.block("retry", RETRY_KEYS)
    values = {
        "retryable": retry.flag("retryable"),
        "max_attempts": retry.number("max_attempts", ATTEMPTS),
        "backoff": retry.choice("backoff", BACKOFFS),
        "backoff_base_ms": retry.number("backoff_base_ms", BASE_MS),
        "max_backoff_ms": retry.number("max_backoff_ms", MAX_MS),
    }
    for old, new, bounds, factor in _OLD_RETRY_KEYS:
        if retry.has(old):
            unit = ", in milliseconds" if factor > 1 else ""
            _deprecated(retry, old, new + unit)
            value = retry.number(old, bounds)
            if values[new] is None and value is not None:
                values[new] = round(value * factor)
    _check_retry(retry, values)
    if keep_defaults:
        return given(**values)
    defaults = {
        "retryable": True,
        "max_attempts": 3,
        "backoff": "exponential",
        "max_backoff_ms": 30_000,  # but a base is kept: being given changes its meaning
    }
    return given(**{key: unless(value, defaults.get(key)) for key, value in values.items()})


_OLD_RETRY_KEYS = (
    ("limit", "max_attempts", ATTEMPTS, 1),
    ("initial_delay", "backoff_base_ms", Bounds("RETRY_RANGE", 0, 86_400, whole=False), 1000),
    ("max_delay", "max_backoff_ms", Bounds("RETRY_RANGE", 0, 86_400, whole=False), 1000),
)


def _check_retry(retry: Block, values: dict[str, Any]) -> None:
    base, cap, attempts = (
        values["backoff_base_ms"],
        values["max_backoff_ms"],
        values["max_attempts"],
    )
    if base is not None and cap is not None and cap < base:
        retry.findings.warning(
            "RETRY_RANGE",
            retry.path,
            f"max_backoff_ms is {cap}, less than backoff_base_ms, {base}: every rest is {cap} ms",
        )
    if values["retryable"] is False and attempts is not None and attempts > 1:
        retry.findings.info(
            "RETRY_RANGE",
            retry.path,
            f"retryable is false, so that max_attempts: {attempts} has no effect",
        )


def _batch_config(block: Block) -> dict[str, Any] | None:
    if not block.has("batch_config"):
        return None
    batch = block.block("batch_config", BATCH_KEYS)
    strategies = ("continue_on_failure", "fail_fast", "isolate")
    return given(
        # never left out, so that an empty batch_config stays one
        batch_size=batch.number("batch_size", Bounds("BAD_VALUE", 1, 100_000)) or 1000,
        parallelism=unless(batch.number("parallelism", Bounds("BAD_VALUE", 1, 1000)), 10),
        cursor_field=unless(batch.text("cursor_field", 255), "id"),
        worker_template=batch.text("worker_template", 255),
        failure_strategy=unless(batch.choice("failure_strategy", strategies), strategies[0]),
    )


def _event(block: Block) -> dict[str, Any]:
    if not block.readable:
        return {}
    report = block.findings.error
    name = block.text("name", 255)
    if not block.has("name"):
        report("EVENT_NAME_INVALID", block.path, "an event needs a name", "such as order.paid")
    elif name is not None and not EVENT_NAME.fullmatch(name):
        message = f"the event name {shown(name)} must be lower-case words joined by dots"
        report("EVENT_NAME_INVALID", block.at("name"), message, "such as order.paid")
    description = block.text("description")
    if not block.has("description"):
        report("BAD_VALUE", block.path, "an event needs a description", "add description: …")
    schema = block.schema("schema", "EVENT_SCHEMA_INVALID")
    if not block.has("schema"):
        report("EVENT_SCHEMA_INVALID", block.path, "an event needs a schema", "add {type: object}")
    publisher = block.text("publisher", 255)
    if publisher is not None and not PUBLISHER.fullmatch(publisher):
        message = f"the publisher {shown(publisher)} must be identifiers joined by . or ::"
        report("EVENT_PUBLISHER_INVALID", block.at("publisher"), message)
    conditions = ("success", "failure", "retryable_failure", "permanent_failure", "always")
    modes = ("durable", "fast", "broadcast")
    return given(
        name=name,
        description=description,
        schema=schema,
        condition=unless(block.choice("condition", conditions), "success"),
        delivery_mode=unless(block.choice("delivery_mode", modes), "durable"),
        publisher=publisher,
    )


def _consumes(block: Block) -> dict[str, Any]:
    consumes = block.mapping("consumes") or {}
    inner = Block(consumes, block.at("consumes"), block.findings, frozenset(consumes))
    return given(**{name: inner.schema(name) for name in consumes})


def read_name(block: Block, whose: str) -> str | None:
    value = block.values.get("name")
    if value is None:
        block.findings.error("INVALID_NAME", block.path, f"{whose} needs a name", "add name: …")
        return None
    return value if is_name(block, "name", value) else None


def is_name(block: Block, key: str, value: Any) -> bool:
    if isinstance(value, str) and NAME.fullmatch(value) and len(value) <= 255:
        return True
    written = value if isinstance(value, str) else block.findings.written(block.at(key))
    better = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written).lower())
    better = better.lstrip("_0123456789").rstrip("_")
    block.findings.error(
        "INVALID_NAME",
        block.at(key),
        f"{key} is {shown(value)}, but must be lower-case letters, digits and _, beginning "
        "with a letter, at most 255",
        f"write {key}: {better}" if better and len(better) <= 60 else None,
    )
    return False


def read_override(block: Block) -> dict[str, Any]:
    if not block.readable:
        return {}
    name = block.text("name")
    if not block.has("name"):
        block.findings.error(
            "BAD_VALUE", block.path, "an override needs a name", "a step's name, or ALL"
        )
    handler = block.block("handler", OVERRIDE_HANDLER_KEYS)
    return given(
        name=name,
        handler=given(initialization=handler.mapping("initialization")),
        timeout_seconds=block.number("timeout_seconds", TIMEOUT),
        retry=_retry(block, keep_defaults=True),
    )


def object_schema(block: Block, key: str) -> dict[str, Any] | None:
    schema = block.schema(key)
    if schema is not None and schema.get("type", "object") != "object":
        block.findings.warning(
            "SCHEMA_NOT_OBJECT",
            (*block.at(key), "type"),
            f"{key} describes {shown(schema['type'])}, but what it is for is an object",
            "write type: object",
        )
    return schema


def _deprecated(block: Block, old: str, new: str) -> None:
    block.findings.warning(
        "DEPRECATED_KEY", block.at(old), f"{old} is an old word", f"write {new}", at_key=True
    )


def check_repeats(findings: Findings, key: str, path: Path, events: list[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for index, event in enumerate(events):
        name = event.get("name")
        if name in seen:
            message = f"{key} has {shown(name)} twice; the last one counts"
            findings.warning("DUPLICATE_EVENT", (*path, index), message, "leave one out")
        elif name is not None:
            seen.add(name)


def last_of_each(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({event.get("name"): event for event in events}.values())


def unless(value: Any, default: Any) -> Any:
    """Leave out what equals its default."""
    return None if value == default else value


def given(**values: Any) -> dict[str, Any]:
    """Keep what was given: nothing null, nothing empty."""
    return {key: value for key, value in values.items() if value not in (None, {}, [])}
