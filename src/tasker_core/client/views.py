"""What both clients say of one task from many sides, of many tasks, and of workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar
from uuid import UUID

from tasker_core.client import calls
from tasker_core.client.answers import BulkCreateResponse, TaskListResponse, TaskResponse
from tasker_core.client.calls import Call

T = TypeVar("T")
Drawing = Literal["mermaid", "dot"]

PAGE_SIZE = 100


class ViewCalls:
    """The part of `TaskerClient` for the sides of a task, and for many tasks."""

    initiator: str
    source_system: str

    def _send(self, call: Call[T]) -> T:
        raise NotImplementedError

    def create_tasks(
        self, tasks: Iterable[Mapping[str, Any]], *, atomic: bool = False
    ) -> BulkCreateResponse:
        """Begin many tasks in one request, each for itself.

        Args:
            tasks: Up to 10,000 of `{"name": …, "namespace": …, "context": …}`, with the
                arguments of `create_task`; read once.
            atomic: All of them or none.

        Returns:
            What became of each, in their order: `items[n].task_uuid`, or `code` and `detail`.

        Raises:
            TaskConflictError: With `atomic`: one of them exists.
            TaskValidationError: With `atomic`: one is wrong; `errors` says which, and where.
        """
        call = calls.create_tasks(tasks, atomic, self.initiator, self.source_system)
        return self._send(call)

    def iter_tasks(self, *, page_size: int = PAGE_SIZE, **filters: Any) -> Iterator[TaskResponse]:
        """Go through all tasks that fit, page by page, whatever is created meanwhile.

        Args:
            page_size: How many a request brings, at most 200.
            filters: As for `list_tasks`, and `sort`: `created_at`, `-created_at`,
                `priority`, `-priority`.
        """
        cursor: str | None = None
        while True:
            page: TaskListResponse = self._send(calls.page_of_tasks(page_size, cursor, filters))
            yield from page.tasks
            cursor = page.pagination.next_cursor
            if cursor is None:
                return

    def retry_task(
        self,
        task_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        drop_checkpoints: bool = False,
    ) -> TaskResponse:
        """Run every failed step of a task again.

        Raises:
            TaskConflictError: Nothing of it has failed, or it has ended otherwise.
        """
        call = calls.retry_task(task_uuid, reason, actor or self.initiator, drop_checkpoints)
        return self._send(call)

    def get_task_summary(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read all that a page about a task shows: `{"task", "template", "steps", "dlq"}`."""
        return self._send(calls.get_task_view(task_uuid, "summary"))

    def get_task_context(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read what went in and what came out: `{"inputs": {}, "outputs": {}, "merged": {}}`."""
        return self._send(calls.get_task_view(task_uuid, "context"))

    def get_task_graph(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read the graph: `{"nodes": [{"step_uuid", "name", "state"}], "edges": []}`."""
        return self._send(calls.get_task_view(task_uuid, "graph"))

    def draw_task(self, task_uuid: UUID | str, format: Drawing = "mermaid") -> str:
        """Draw the graph, for Mermaid or for Graphviz."""
        return self._send(calls.draw_task(task_uuid, format))

    def get_task_audit(self, task_uuid: UUID | str) -> list[dict[str, Any]]:
        """List what happened to a task and its steps, and who did it, the newest first."""
        return self._send(calls.get_task_audit(task_uuid))

    def list_workers(self) -> dict[str, Any]:
        """List the workers of the last day: `{"workers": [], "alive_count": int}`."""
        return self._send(calls.list_workers())


class AsyncViewCalls:
    """The part of `AsyncTaskerClient` for the sides of a task; see `ViewCalls`."""

    initiator: str
    source_system: str

    async def _send(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def create_tasks(
        self, tasks: Iterable[Mapping[str, Any]], *, atomic: bool = False
    ) -> BulkCreateResponse:
        """Begin many tasks in one request; see `TaskerClient.create_tasks`."""
        call = calls.create_tasks(tasks, atomic, self.initiator, self.source_system)
        return await self._send(call)

    async def iter_tasks(
        self, *, page_size: int = PAGE_SIZE, **filters: Any
    ) -> AsyncIterator[TaskResponse]:
        """Go through all tasks that fit; see `TaskerClient.iter_tasks`."""
        cursor: str | None = None
        while True:
            page: TaskListResponse = await self._send(
                calls.page_of_tasks(page_size, cursor, filters)
            )
            for task in page.tasks:
                yield task
            cursor = page.pagination.next_cursor
            if cursor is None:
                return

    async def retry_task(
        self,
        task_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        drop_checkpoints: bool = False,
    ) -> TaskResponse:
        """Run every failed step of a task again."""
        call = calls.retry_task(task_uuid, reason, actor or self.initiator, drop_checkpoints)
        return await self._send(call)

    async def get_task_summary(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read all that a page about a task shows."""
        return await self._send(calls.get_task_view(task_uuid, "summary"))

    async def get_task_context(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read what went in and what came out."""
        return await self._send(calls.get_task_view(task_uuid, "context"))

    async def get_task_graph(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read the graph."""
        return await self._send(calls.get_task_view(task_uuid, "graph"))

    async def draw_task(self, task_uuid: UUID | str, format: Drawing = "mermaid") -> str:
        """Draw the graph, for Mermaid or for Graphviz."""
        return await self._send(calls.draw_task(task_uuid, format))

    async def get_task_audit(self, task_uuid: UUID | str) -> list[dict[str, Any]]:
        """List what happened to a task and its steps, and who did it, the newest first."""
        return await self._send(calls.get_task_audit(task_uuid))

    async def list_workers(self) -> dict[str, Any]:
        """List the workers of the last day."""
        return await self._send(calls.list_workers())
