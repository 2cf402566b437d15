"""Dead letters as the engine read them → what the caller sees."""

from __future__ import annotations

from datetime import timedelta

from tasker_core.engine.dlq import DlqEntry, DlqStats, Investigation
from tasker_core.engine.staleness import StalenessRecord
from tasker_core.wire import dlq as wire


def dlq_entry(entry: DlqEntry) -> wire.DlqEntryResponse:
    """Show one dead letter."""
    return wire.DlqEntryResponse(
        dlq_entry_uuid=entry.dlq_entry_uuid,
        task_uuid=entry.task_uuid,
        original_state=entry.original_state,
        dlq_reason=entry.dlq_reason,
        dlq_timestamp=entry.entered_at,
        resolution_status=entry.resolution_status,
        resolution_timestamp=entry.resolved_at,
        resolution_notes=entry.resolution_notes,
        resolved_by=entry.resolved_by,
        task_snapshot=entry.snapshot,
        metadata=entry.metadata,
        created_at=entry.entered_at,
        updated_at=entry.updated_at,
        task_state=entry.task_state,
    )


def dlq_stats(stats: DlqStats) -> wire.DlqStatsResponse:
    """Show the count of one reason."""
    average = stats.average_resolution
    return wire.DlqStatsResponse(
        dlq_reason=stats.dlq_reason,
        total_entries=stats.total_entries,
        pending=stats.pending,
        manually_resolved=stats.manually_resolved,
        permanent_failures=stats.permanently_failed,
        cancelled=stats.cancelled,
        oldest_entry=stats.oldest_entry,
        newest_entry=stats.newest_entry,
        avg_resolution_time_minutes=None if average is None else _minutes(average),
    )


def investigation(one: Investigation) -> wire.InvestigationResponse:
    """Show one pending dead letter and its urgency."""
    seconds = one.seconds_in_state
    return wire.InvestigationResponse(
        dlq_entry_uuid=one.dlq_entry_uuid,
        task_uuid=one.task_uuid,
        original_state=one.original_state,
        dlq_reason=one.dlq_reason,
        dlq_timestamp=one.entered_at,
        minutes_in_dlq=_minutes(one.in_dlq),
        namespace_name=one.namespace,
        task_name=one.name,
        current_state=one.original_state,
        time_in_state_minutes=None if seconds is None else _minutes(timedelta(seconds=seconds)),
        priority_score=round(one.priority_score, 2),
        task_state=one.task_state,
        is_repaired=one.is_repaired,
    )


def staleness(one: StalenessRecord) -> wire.StalenessResponse:
    """Show how close a task is to being stale."""
    return wire.StalenessResponse(
        task_uuid=one.task_uuid,
        namespace_name=one.namespace,
        task_name=one.name,
        current_state=one.state,
        time_in_state_minutes=_minutes(one.seen_at - one.entered_at),
        idle_minutes=None if one.idle_since is None else _minutes(one.seen_at - one.idle_since),
        task_age_minutes=_minutes(one.seen_at - one.created_at),
        staleness_threshold_minutes=_minutes(one.state_limit),
        ends_at=one.ends_at,
        health_status=one.health,
        priority=one.priority,
        missing_handlers=one.missing_handlers,
    )


def _minutes(span: timedelta) -> float:
    return round(span / timedelta(minutes=1), 2)
