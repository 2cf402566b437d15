-- What is measured: the executions of steps.

-- One row an attempt that ended by itself, well or badly, with its seconds from the claim to
-- the result and in the queue before. Not those that a cancellation or an operator ended.
-- When a lost worker stopped is not known: its attempt failed, and has no run_seconds.
create view tasker.executions as
select
    past.task_uuid,
    past.step_no,
    past.attempt,
    past.outcome <> 'complete' as has_failed,
    -- asked of few: a window over all would take longer than all the rest
    (
        past.attempt > 1 and exists (
            select from tasker.attempts as earlier
            where
                earlier.task_uuid = past.task_uuid
                and earlier.step_no = past.step_no
                and earlier.attempt < past.attempt
                and earlier.outcome in ('waiting_for_retry', 'error', 'complete')
                and coalesce(earlier.ended_by, '') <> 'operator'
        )
    ) as is_retry,
    past.finished_at,
    case
        when coalesce(past.ended_by, '') <> 'sweep'
            then date_part('epoch', past.finished_at - past.claimed_at)
    end as run_seconds,
    date_part('epoch', past.claimed_at - past.enqueued_at) as wait_seconds
from tasker.attempts as past
where
    past.outcome in ('waiting_for_retry', 'error', 'complete')
    and coalesce(past.ended_by, '') <> 'operator';
