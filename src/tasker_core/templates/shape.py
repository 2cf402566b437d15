"""Turn a document into a definition: every key, its kind of value and its bounds.

What is said here concerns one value at a time; what the steps say together is
the business of `validate`. The definition keeps the place of every step (one that
cannot be read becomes an empty mapping), and leaves out what equals its default.
"""

from __future__ import annotations

import re
from typing import Any

from tasker_core.templates.block import Block, Bounds, keys
from tasker_core.templates.findings import Findings, shown
from tasker_core.templates.graph import is_semver
from tasker_core.templates.steps import (
    IN_STEP,
    OVERRIDE_KEYS,
    STEP_KEYS,
    VALIDATIONS,
    check_repeats,
    given,
    is_name,
    last_of_each,
    object_schema,
    read_name,
    read_override,
    read_step,
    unless,
)

TEMPLATE_KEYS = keys(
    "name namespace_name version description metadata task_handler system_dependencies "
    "domain_events input_schema steps environments lifecycle identity_strategy loaded_from "
    "on_failure give_up_after result_validation"
)
DOMAIN_EVENT_KEYS = keys("name description schema")
SYSTEM_KEYS = keys("primary secondary")
TASK_HANDLER_KEYS = keys("callable initialization")
LIFECYCLE_KEYS = keys(
    "max_duration_minutes max_waiting_for_dependencies_minutes max_waiting_for_retry_minutes "
    "max_steps_in_process_minutes staleness_action auto_fail_on_timeout "
    "auto_dlq_on_timeout"
)
ENVIRONMENT_KEYS = frozenset({"steps"})
ENVIRONMENT = re.compile(r"[A-Za-z0-9_-]{1,50}")  # as in the settings

# Keys that are often written one level too high, or low, and where they belong.
_IN_TEMPLATE = {
    **dict.fromkeys(LIFECYCLE_KEYS, "lifecycle"),
    **dict.fromkeys(("dependencies", "handler", "retry", "timeout_seconds"), "a step"),
}

_A_YEAR = 31_536_000
GIVE_UP = Bounds("BAD_VALUE", 0, _A_YEAR, whole=False)
DURATION = Bounds("LIFECYCLE_RANGE", 1, 43_200)
WAITING = Bounds("LIFECYCLE_RANGE", 1, 10_080)

MAX_NAMESPACE = 29


def read_shape(findings: Findings) -> dict[str, Any]:
    """Give the definition that the document spells out, as far as it can be read."""
    block = Block(findings.document.value, (), findings, TEMPLATE_KEYS, _IN_TEMPLATE)
    if not block.readable:
        return {"steps": []}
    block.text("loaded_from")
    domain_events = [_domain_event(e) for e in block.blocks("domain_events", DOMAIN_EVENT_KEYS)]
    check_repeats(findings, "domain_events", block.at("domain_events"), domain_events)
    definition = given(
        namespace_name=_namespace(block),
        name=read_name(block, "a template"),
        version=_version(block),
        description=block.text("description"),
        metadata=_metadata(block),
        task_handler=_task_handler(block),
        system_dependencies=_system_dependencies(block),
        domain_events=last_of_each(domain_events),
        input_schema=object_schema(block, "input_schema"),
        identity_strategy=unless(
            block.choice("identity_strategy", ("strict", "caller_provided", "always_unique")),
            "strict",
        ),
        lifecycle=_lifecycle(block),
        environments=_environments(block),
        on_failure=unless(block.choice("on_failure", ("halt", "continue")), "halt"),
        give_up_after=block.number("give_up_after", GIVE_UP),
        result_validation=unless(block.choice("result_validation", VALIDATIONS), "off"),
    )
    steps = block.blocks("steps", STEP_KEYS, IN_STEP)
    if not steps and (not block.has("steps") or block.values["steps"] == []):
        path = block.at("steps") if "steps" in block.values else ()
        findings.error("NO_STEPS", path, "a template needs at least one step", "add it to steps:")
    definition["steps"] = [read_step(step) for step in steps]
    return definition


# --- names and version ---------------------------------------------------------------


def _namespace(block: Block) -> str | None:
    key = "namespace_name"
    value = block.values.get(key)
    if value is None:
        message = "a template needs a namespace_name: who shares its workers"
        block.findings.error("INVALID_NAME", (), message, "add namespace_name: default")
        return None
    if not is_name(block, key, value):
        return None
    if len(value) > MAX_NAMESPACE:
        block.findings.error(
            "NAMESPACE_TOO_LONG",
            block.at(key),
            f"{key} has {len(value)} characters, but may have {MAX_NAMESPACE}",
        )
        return None
    name: str = value
    return name


def _version(block: Block) -> str | None:
    value = block.values.get("version")
    report = block.findings.error
    if value is None:
        report("INVALID_VERSION", (), "a template needs a version", "add version: 1.0.0")
        return None
    if isinstance(value, str) and is_semver(value) and len(value) <= 50:
        return value
    path = block.at("version")
    if isinstance(value, dict | list | bool):
        report("INVALID_VERSION", path, f"version is {shown(value)}", "write version: 1.0.0")
        return None
    written = value if isinstance(value, str) else block.findings.written(path)
    numbers = [*re.findall(r"\d+", written), "0", "0", "0"][:3]
    better = ".".join(str(int(number[:9])) for number in numbers)
    said = shown(written) if isinstance(value, str) else f"{written}, a number to YAML"
    report(
        "INVALID_VERSION",
        path,
        f"version is {said}, but must be three numbers with dots (semver), at most 50 characters",
        f'write version: "{better}"',
    )
    return None


# --- the small objects of the top level --------------------------------------------------


def _metadata(block: Block) -> dict[str, Any] | None:
    metadata = block.mapping("metadata")
    if metadata is not None:
        # any key may stand here; the five that are known have a kind
        inner = Block(metadata, block.at("metadata"), block.findings, frozenset(metadata))
        for key in ("author", "documentation_url", "created_at", "updated_at"):
            inner.text(key)
        inner.texts("tags")
    return metadata


def _task_handler(block: Block) -> dict[str, Any] | None:
    if not block.has("task_handler"):
        return None
    handler = block.block("task_handler", TASK_HANDLER_KEYS)
    initialization = handler.mapping("initialization")
    if initialization is not None:
        start = Block(
            initialization, handler.at("initialization"), block.findings, frozenset(initialization)
        )
        validation = start.mapping("input_validation")
        if validation is not None:
            path = start.at("input_validation")
            Block(validation, path, block.findings, frozenset(validation)).texts("required_fields")
    return given(callable=handler.text("callable", 500), initialization=initialization)


def _system_dependencies(block: Block) -> dict[str, Any]:
    systems = block.block("system_dependencies", SYSTEM_KEYS)
    primary = unless(systems.text("primary", 255), "default")
    return given(primary=primary, secondary=systems.texts("secondary"))


def _lifecycle(block: Block) -> dict[str, Any] | None:
    if not block.has("lifecycle"):
        return None
    lifecycle = block.block("lifecycle", LIFECYCLE_KEYS)
    waits = ("waiting_for_dependencies", "waiting_for_retry", "steps_in_process")
    return given(
        max_duration_minutes=lifecycle.number("max_duration_minutes", DURATION),
        **{f"max_{w}_minutes": lifecycle.number(f"max_{w}_minutes", WAITING) for w in waits},
        staleness_action=unless(
            lifecycle.choice("staleness_action", ("dlq", "error", "none")), "dlq"
        ),
        auto_fail_on_timeout=lifecycle.flag("auto_fail_on_timeout"),
        auto_dlq_on_timeout=lifecycle.flag("auto_dlq_on_timeout"),
    )


def _environments(block: Block) -> dict[str, Any]:
    environments = block.mapping("environments") or {}
    path = block.at("environments")
    found = {}
    for name, value in environments.items():
        if not ENVIRONMENT.fullmatch(name):
            block.findings.error(
                "INVALID_NAME",
                (*path, name),
                f"no environment can be called {shown(name)}: letters, digits, _ and -, at most 50",
                "write it as TASKER_ENV does",
                at_key=True,
            )
        environment = Block(value, (*path, name), block.findings, ENVIRONMENT_KEYS)
        overrides = [read_override(o) for o in environment.blocks("steps", OVERRIDE_KEYS)]
        if overrides:
            found[name] = {"steps": overrides}
    return found


def _domain_event(block: Block) -> dict[str, Any]:
    if not block.readable:
        return {}
    name = block.text("name", 255)
    if not block.has("name"):
        block.findings.error("BAD_VALUE", block.path, "a domain event needs a name")
    return given(name=name, description=block.text("description"), schema=block.schema("schema"))
