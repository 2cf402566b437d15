"""What both clients say of dead letters, and of tasks that do not move.

The answers are the JSON of the API, as mappings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

from tasker_core.client import calls
from tasker_core.client.calls import Call

T = TypeVar("T")


class DlqCalls:
    """The part of `TaskerClient` for dead letters."""

    initiator: str

    def _send(self, call: Call[T]) -> T:
        raise NotImplementedError

    def list_dlq_entries(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        resolution_status: str | None = None,
        dlq_reason: str | None = None,
        namespace: str | None = None,
        task_uuid: UUID | str | None = None,
    ) -> list[dict[str, Any]]:
        """List dead letters, the youngest first; at most 200."""
        wanted = {
            "resolution_status": resolution_status,
            "dlq_reason": dlq_reason,
            "namespace": namespace,
            "task_uuid": task_uuid,
        }
        return self._send(calls.list_dlq_entries(limit, offset, wanted))

    def get_dlq_entry(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read the dead letter of a task, the pending one if there is one; its own id does, too."""
        return self._send(calls.get_dlq_entry(task_uuid))

    def create_dlq_entry(
        self,
        task_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Put a task aside for a person; the task itself is not changed.

        Raises:
            TaskConflictError: It has a pending dead letter already.
        """
        return self._send(
            calls.create_dlq_entry(task_uuid, reason, actor or self.initiator, metadata)
        )

    def update_dlq_investigation(
        self,
        dlq_entry_uuid: UUID | str,
        *,
        resolution_status: str | None = None,
        resolution_notes: str | None = None,
        resolved_by: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        reopen: bool = False,
    ) -> dict[str, Any]:
        """Write into a dead letter, resolve it, or reopen it; the task is not changed.

        Args:
            dlq_entry_uuid: The dead letter; or its task, and its pending dead letter is meant.
            resolution_status: `manually_resolved`, `permanently_failed` or `cancelled`.
            resolution_notes: What was found.
            resolved_by: Who resolved it; else the client's initiator.
            metadata: Facts, added to what is there.
            reopen: Make a resolved one pending again.

        Raises:
            TaskConflictError: It is resolved already, or pending if it is to be reopened.
        """
        return self._send(
            calls.update_dlq_investigation(
                dlq_entry_uuid,
                resolution_status=resolution_status,
                resolution_notes=resolution_notes,
                resolved_by=resolved_by,
                metadata=metadata,
                reopen=reopen,
                initiator=self.initiator,
            )
        )

    def get_dlq_stats(self) -> list[dict[str, Any]]:
        """Count the dead letters by reason."""
        return self._send(calls.get_dlq_stats())

    def get_investigation_queue(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """List the pending dead letters, the most urgent first, of repaired tasks last."""
        return self._send(calls.get_investigation_queue(limit))

    def get_staleness_monitoring(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """List living tasks by how close they are to being stale, the worst first."""
        return self._send(calls.get_staleness_monitoring(limit))


class AsyncDlqCalls:
    """The part of `AsyncTaskerClient` for dead letters."""

    initiator: str

    async def _send(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def list_dlq_entries(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        resolution_status: str | None = None,
        dlq_reason: str | None = None,
        namespace: str | None = None,
        task_uuid: UUID | str | None = None,
    ) -> list[dict[str, Any]]:
        """List dead letters, the youngest first; at most 200."""
        wanted = {
            "resolution_status": resolution_status,
            "dlq_reason": dlq_reason,
            "namespace": namespace,
            "task_uuid": task_uuid,
        }
        return await self._send(calls.list_dlq_entries(limit, offset, wanted))

    async def get_dlq_entry(self, task_uuid: UUID | str) -> dict[str, Any]:
        """Read the dead letter of a task, the pending one if there is one; its own id does, too."""
        return await self._send(calls.get_dlq_entry(task_uuid))

    async def create_dlq_entry(
        self,
        task_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Put a task aside for a person; the task itself is not changed."""
        return await self._send(
            calls.create_dlq_entry(task_uuid, reason, actor or self.initiator, metadata)
        )

    async def update_dlq_investigation(
        self,
        dlq_entry_uuid: UUID | str,
        *,
        resolution_status: str | None = None,
        resolution_notes: str | None = None,
        resolved_by: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        reopen: bool = False,
    ) -> dict[str, Any]:
        """Write into a dead letter, resolve it, or reopen it; the task is not changed."""
        return await self._send(
            calls.update_dlq_investigation(
                dlq_entry_uuid,
                resolution_status=resolution_status,
                resolution_notes=resolution_notes,
                resolved_by=resolved_by,
                metadata=metadata,
                reopen=reopen,
                initiator=self.initiator,
            )
        )

    async def get_dlq_stats(self) -> list[dict[str, Any]]:
        """Count the dead letters by reason."""
        return await self._send(calls.get_dlq_stats())

    async def get_investigation_queue(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """List the pending dead letters, the most urgent first, of repaired tasks last."""
        return await self._send(calls.get_investigation_queue(limit))

    async def get_staleness_monitoring(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """List living tasks by how close they are to being stale, the worst first."""
        return await self._send(calls.get_staleness_monitoring(limit))
