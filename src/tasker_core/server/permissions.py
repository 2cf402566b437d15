"""Who may do what: the words, the roles, and what each route asks for.

`ROUTES` is the whole policy of the server. A route that is missing there is served to
nobody, as soon as callers are asked who they are.
"""

from __future__ import annotations

from collections.abc import Collection

PERMISSIONS = {
    "tasks:create": "begin tasks",
    "tasks:read": "read a task and its history",
    "tasks:list": "list and search tasks",
    "tasks:cancel": "cancel tasks",
    "tasks:context_read": "read what the steps of a task work on",
    "steps:read": "read steps and their results",
    "steps:resolve": "reset, resolve and complete steps, and tasks as a whole",
    "dlq:read": "read dead letters, and the report of tasks that do not move",
    "dlq:update": "make, resolve and reopen dead letters",
    "dlq:stats": "count dead letters",
    "templates:read": "read templates",
    "templates:validate": "check templates",
    "system:config_read": "read the configuration",
    "system:handlers_read": "see workers and their handlers",
    "system:analytics_read": "see how tasks and steps do",
    "worker:config_read": "read a worker's configuration",
    "worker:templates_read": "read a worker's templates",
}
WILDCARDS = tuple(dict.fromkeys(f"{word.partition(':')[0]}:*" for word in PERMISSIONS))

ROLES = {
    "reader": ("tasks:read", "tasks:list", "steps:read", "dlq:read", "dlq:stats"),
    "submitter": ("tasks:create", "tasks:read", "tasks:list"),
    "operator": ("tasks:*", "steps:*", "dlq:*", "system:*", "templates:read"),
    "worker": ("worker:config_read", "worker:templates_read"),
    "admin": WILDCARDS,
}

# Each route with what it asks for: any one of these; () is whoever has a credential.
# Where one of several is asked for, the route looks at the body and checks again.
ROUTES: dict[str, tuple[str, ...]] = {
    "POST /v1/tasks": ("tasks:create",),
    "POST /v1/tasks/bulk": ("tasks:create",),
    "GET /v1/tasks": ("tasks:list",),
    "POST /v1/tasks/actions": ("tasks:cancel", "steps:resolve"),
    "GET /v1/tasks/{task_uuid}": ("tasks:read",),
    "DELETE /v1/tasks/{task_uuid}": ("tasks:cancel",),
    "POST /v1/tasks/{task_uuid}/cancel": ("tasks:cancel",),
    "POST /v1/tasks/{task_uuid}/retry": ("steps:resolve",),
    "GET /v1/tasks/{task_uuid}/why": ("tasks:read",),
    "GET /v1/tasks/{task_uuid}/transitions": ("tasks:read",),
    "GET /v1/tasks/{task_uuid}/summary": ("tasks:read",),
    "GET /v1/tasks/{task_uuid}/graph": ("tasks:read",),
    "GET /v1/tasks/{task_uuid}/audit": ("tasks:read",),
    "GET /v1/tasks/{task_uuid}/context": ("tasks:context_read",),
    "GET /v1/tasks/{task_uuid}/events": ("tasks:read",),
    "GET /v1/tasks/{task_uuid}/workflow_steps": ("steps:read",),
    "GET /v1/tasks/{task_uuid}/workflow_steps/{step_uuid}": ("steps:read",),
    "PATCH /v1/tasks/{task_uuid}/workflow_steps/{step_uuid}": ("steps:resolve",),
    "GET /v1/tasks/{task_uuid}/workflow_steps/{step_uuid}/audit": ("steps:read",),
    "GET /v1/events": ("tasks:list",),
    "GET /v1/templates": ("templates:read",),
    "GET /v1/templates/{namespace}/{name}/{version}": ("templates:read",),
    "GET /v1/templates/{namespace}/{name}": ("templates:read",),
    "GET /v1/templates/{namespace}/{name}/{version}/input-schema": ("templates:read",),
    "POST /v1/templates/validate": ("templates:validate",),
    "GET /v1/analytics/performance": ("system:analytics_read",),
    "GET /v1/analytics/bottlenecks": ("system:analytics_read",),
    "GET /v1/dlq": ("dlq:read",),
    "POST /v1/dlq": ("dlq:update",),
    "GET /v1/dlq/task/{task_uuid}": ("dlq:read",),
    "PATCH /v1/dlq/entry/{dlq_entry_uuid}": ("dlq:update",),
    "GET /v1/dlq/stats": ("dlq:stats",),
    "GET /v1/dlq/investigation-queue": ("dlq:read",),
    "GET /v1/dlq/staleness": ("dlq:read",),
    "GET /v1/workers": ("system:handlers_read",),
    "GET /v1/whoami": (),
    "GET /config": ("system:config_read",),
    # pages; each shows and does what the caller might over the routes above
    "GET /": (),
    "GET /tasks": ("tasks:list",),
    "GET /events": ("tasks:list",),
    "GET /tasks/{task_uuid}": ("tasks:read",),
    "GET /tasks/{task_uuid}/events": ("tasks:read",),
    "POST /tasks/{task_uuid}/cancel": ("tasks:cancel",),
    "POST /tasks/{task_uuid}/retry": ("steps:resolve",),
    "POST /tasks/{task_uuid}/resolve": ("steps:resolve",),
    "POST /tasks/{task_uuid}/dlq": ("dlq:update",),
    "GET /tasks/{task_uuid}/steps/{step_uuid}": ("steps:read",),
    "POST /tasks/{task_uuid}/steps/{step_uuid}": ("steps:resolve",),
    "GET /dlq": ("dlq:read",),
    "GET /dlq/{dlq_entry_uuid}": ("dlq:read",),
    "POST /dlq/{dlq_entry_uuid}": ("dlq:update",),
    "GET /templates": ("templates:read",),
    "GET /templates/{namespace}/{name}/{version}": ("templates:read",),
    "GET /workers": ("system:handlers_read",),
    "POST /logout": (),
}

# The same of a worker, at its own port.
WORKER_ROUTES: dict[str, tuple[str, ...]] = {
    "GET /v1/templates": ("worker:templates_read",),
    "GET /v1/templates/{namespace}/{name}/{version}": ("worker:templates_read",),
    "POST /v1/templates/{namespace}/{name}/{version}/validate": ("templates:validate",),
    "GET /config": ("worker:config_read",),
}

# What anybody may ask: whether the server lives, and how to talk to it.
PUBLIC_PATHS = frozenset(
    {
        "/login",
        "/static/dashboard.css",
        "/static/dashboard.js",
        "/static/htmx.min.js",
        "/static/icon.svg",
        "/health",
        "/health/live",
        "/health/ready",
        "/health/detailed",
        "/live",
        "/ready",
        "/metrics",
        "/api-docs/openapi.json",
        "/api-docs/ui",
    }
)
WORKER_PUBLIC_PATHS = PUBLIC_PATHS - {"/", "/live", "/ready"} | {
    "/metrics/worker",
    "/metrics/events",
}


def holds(held: Collection[str], needed: str) -> bool:
    """Say whether these permissions include that one; `tasks:*` has all of its resource.

    >>> holds(["tasks:*"], "tasks:read"), holds(["*"], "tasks:read")
    (True, False)
    """
    return needed in held or f"{needed.partition(':')[0]}:*" in held


def misspelled(words: Collection[str]) -> list[str]:
    """Give the words that look like permissions, and are none: ours are the six resources only.

    >>> misspelled(["tasks:read", "tasks:delete", "openid", "*"])
    ['tasks:delete']
    """
    ours = {word.partition(":")[0] for word in PERMISSIONS}
    return [w for w in unknown_permissions(words) if ":" in w and w.partition(":")[0] in ours]


def unknown_permissions(words: Collection[str]) -> list[str]:
    """Give the words that grant nothing.

    >>> unknown_permissions(["tasks:*", "tasks:delete", "*"])
    ['tasks:delete', '*']
    """
    return [word for word in words if word not in PERMISSIONS and word not in WILDCARDS]
