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
    row_number() over (partition by past.task_uuid, past.step_no order by past.attempt) > 1
        as is_retry,
    past.finished_at,
    case
        when past.ended_by is distinct from 'sweep'
            then extract(epoch from past.finished_at - past.claimed_at)::double precision
    end as run_seconds,
    extract(epoch from past.claimed_at - past.enqueued_at)::double precision as wait_seconds
from tasker.attempts as past
where
    past.outcome in ('waiting_for_retry', 'error', 'complete')
    and past.ended_by is distinct from 'operator';
