"""What a template says in one environment: its definition with the overrides in it.

Pure. A template is checked with all its environments, and registered once for each that
it has; a task is created from the one of the process that creates it.
"""

from __future__ import annotations

from typing import Any

from tasker_core.templates.model import TaskTemplate

EVERY_STEP = "ALL"
_REPLACING = ("timeout_seconds", "retry")


def in_environment(template: TaskTemplate, environment: str) -> TaskTemplate:
    """Give the template as it is in an environment; itself if it says nothing about that.

    The overrides for `ALL` steps go first, then those that name a step, in the order of the
    file. `handler.initialization` is merged key by key over what the step has;
    `timeout_seconds` and `retry` take the place of the step's own.
    """
    own = template.environments.get(environment)
    if own is None:
        return template
    overrides = sorted(own["steps"], key=lambda override: override["name"] != EVERY_STEP)
    definition = {key: value for key, value in template.definition.items() if key != "environments"}
    definition["steps"] = [_overridden(step, overrides) for step in definition["steps"]]
    return TaskTemplate.from_definition(definition)


def _overridden(step: dict[str, Any], overrides: list[dict[str, Any]]) -> dict[str, Any]:
    handler = step["handler"]
    initialization = dict(handler.get("initialization", {}))
    replaced: dict[str, Any] = {}
    for override in overrides:
        if override["name"] in (EVERY_STEP, step["name"]):
            initialization |= override.get("handler", {}).get("initialization", {})
            replaced |= {key: override[key] for key in _REPLACING if key in override}
    if initialization:
        handler = {**handler, "initialization": initialization}
    return {**step, **replaced, "handler": handler}
