"""How long a task may take, as the database holds it.

`lifecycle` says it in minutes, `give_up_after` in seconds. Here both become one small
object, stored beside the definition, that the sweep holds living tasks against.
"""

from __future__ import annotations

from typing import Any

from tasker_core.templates.model import Lifecycle, TaskTemplate

SHORTEST_LOOK_SECONDS = 60


def limits_of(template: TaskTemplate) -> dict[str, Any] | None:
    """Say what a template limits; None: its tasks may take as long as they like.

    Returns:
        Seconds by name: `duration` for the whole task, and the states of a task for the
        time in them (`blocked_by_failures` is `give_up_after`). What is not limited is
        absent. Beside them

        - `fails`, `files`: whether a task over its duration or its time in a state ends in
          `error`, and whether an entry of the dead-letter queue is made of it;
        - `look_after`: seconds from a look at a task until it could be over a limit that
          nothing tells of yet, at least a minute; absent when nothing is to be done at any.

    >>> from tasker_core.templates.load import parse_template
    >>> text = '''{name: a, namespace_name: b, version: 1.0.0, give_up_after: 90,
    ...   lifecycle: {max_duration_minutes: 5, staleness_action: error},
    ...   steps: [{name: one, handler: {callable: one}}]}'''
    >>> limits_of(parse_template(text).template)
    {'duration': 300, 'blocked_by_failures': 90, 'fails': True, 'files': False, 'look_after': 90}
    """
    own = template.lifecycle or Lifecycle()
    minutes = {
        "duration": own.max_duration_minutes,
        "waiting_for_dependencies": own.max_waiting_for_dependencies_minutes,
        "waiting_for_retry": own.max_waiting_for_retry_minutes,
        "steps_in_process": own.max_steps_in_process_minutes,
    }
    limits: dict[str, Any] = {
        name: 60 * limit for name, limit in minutes.items() if limit is not None
    }
    fails, files = _action(own)
    acting = list(limits.values()) if fails or files else []
    if template.give_up_after is not None:
        limits["blocked_by_failures"] = template.give_up_after
        acting.append(limits["blocked_by_failures"])
    if not limits:
        return None
    limits |= {"fails": fails, "files": files}
    if acting:
        limits["look_after"] = max(SHORTEST_LOOK_SECONDS, min(acting))
    return limits


def _action(own: Lifecycle) -> tuple[bool, bool]:
    """Say whether a task over a limit ends in error, and whether a dead letter is written."""
    fails, files = own.staleness_action != "none", own.staleness_action == "dlq"
    if own.auto_fail_on_timeout is not None:
        fails = own.auto_fail_on_timeout
    if own.auto_dlq_on_timeout is not None:
        files = own.auto_dlq_on_timeout
    return fails, files
