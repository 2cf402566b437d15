"""The services that only read, and dead letters: the requests that their calls stand for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tasker_core.server.rpc.api import Api, part

Given = Mapping[str, Any]
Answer = Callable[[Api, Given], Awaitable[Given]]


def _reading(path: str, member: str | None = None) -> Answer:
    """Ask for a path, with what is given as the query; the reply is the answer, or its member."""

    async def answer(api: Api, given: Given) -> Given:
        document = (await api.ask("GET", path, query=given)).document
        return document if member is None else {member: document}

    return answer


async def get_template(api: Api, given: Given) -> Given:
    """Read one version of a template, the newest if none is named."""
    path = f"/v1/templates/{part(given.get('namespace', 'default'))}/{part(given.get('name'))}"
    version = given.get("version")
    if version is None:
        version = (await api.ask("GET", path)).document["versions"][0]["version"]
    query = {
        "include": "configuration" if given.get("include_configuration") else None,
        "environment": given.get("environment"),
    }
    reply = await api.ask("GET", f"{path}/{part(version)}", query=query)
    return {"template": reply.document}


async def list_entries(api: Api, given: Given) -> Given:
    """List dead letters."""
    reply = await api.ask("GET", "/v1/dlq", query=given)
    return {"entries": reply.document, "total": int(reply.headers["x-total-count"])}


async def get_entry_by_task(api: Api, given: Given) -> Given:
    """Read the dead letter of a task."""
    path = f"/v1/dlq/task/{part(given.get('task_uuid'))}"
    return {"entry": (await api.ask("GET", path)).document}


async def update_investigation(api: Api, given: Given) -> Given:
    """Write into a dead letter."""
    body = dict(given)
    path = f"/v1/dlq/entry/{part(body.pop('dlq_entry_uuid', None))}"
    return dict((await api.ask("PATCH", path, body=body)).document)


TEMPLATES = {
    "ListTemplates": _reading("/v1/templates"),
    "GetTemplate": get_template,
}
ANALYTICS = {
    "GetPerformanceMetrics": _reading("/v1/analytics/performance"),
    "GetBottleneckAnalysis": _reading("/v1/analytics/bottlenecks"),
}
DLQ = {
    "ListEntries": list_entries,
    "GetEntryByTask": get_entry_by_task,
    "UpdateInvestigation": update_investigation,
    "GetStats": _reading("/v1/dlq/stats", "stats"),
    "GetInvestigationQueue": _reading("/v1/dlq/investigation-queue", "entries"),
    "GetStalenessMonitoring": _reading("/v1/dlq/staleness", "tasks"),
}
CONFIG = {"GetConfig": _reading("/config")}
HEALTH = {
    "CheckHealth": _reading("/health"),
    "CheckLiveness": _reading("/health/live"),
    "CheckReadiness": _reading("/health/ready"),
    "CheckDetailedHealth": _reading("/health/detailed"),
}
