-- What may be read: the state of every step, and every transition that was made.

create function tasker.step_uuid(task_uuid uuid, step_no int) returns uuid
language sql immutable
as $$
    select (left(task_uuid::text, 31) || lpad(to_hex(step_no), 5, '0'))::uuid
$$;

-- The least id that a UUIDv7 made at this moment or later can have.
create function tasker.first_uuid(made_at timestamptz) returns uuid
language sql immutable
as $$
    select rpad(
        lpad(to_hex(floor(greatest(extract(epoch from made_at), 0) * 1000)::bigint), 12, '0'),
        32, '0'
    )::uuid
$$;

-- One row a step, with the state that a reader sees. Each step is looked up by its key, by
-- `limit` without fail: with statistics from tasks of a few steps a join may read all waiting
-- steps of a large task for each of its steps.
create view tasker.step_states as
select
    step.task_uuid,
    step.step_no,
    tasker.step_uuid(step.task_uuid, step.step_no) as step_uuid,
    step.name,
    step.template_step,
    step.lane,
    case
        when step.state <> 'pending' then step.state
        when lease.task_uuid is not null then 'in_progress'
        when ready.task_uuid is not null then 'enqueued'
        when delayed.task_uuid is not null then 'waiting_for_retry'
        else 'pending'
    end as state,
    step.parents,
    step.children,
    step.parents_left,
    coalesce(lease.attempt, step.attempt) as attempt,
    step.forgiven,
    step.max_attempts,
    delayed.due_at,
    ready.enqueued_at,
    lease.claimed_at,
    lease.ends_at as lease_ends_at,
    lease.worker_uuid,
    step.completed_at,
    step.checkpoint,
    step.result,
    step.batch_of,
    step.failure_strategy,
    step.is_held
from tasker.steps as step
left join lateral (
    select l.* from tasker.leases as l
    where step.state = 'pending' and l.task_uuid = step.task_uuid and l.step_no = step.step_no
    limit 1
) as lease on true
left join lateral (
    select r.* from tasker.ready as r
    where step.state = 'pending' and r.task_uuid = step.task_uuid and r.step_no = step.step_no
    limit 1
) as ready on true
left join lateral (
    select d.* from tasker.delayed as d
    where step.state = 'pending' and d.task_uuid = step.task_uuid and d.step_no = step.step_no
    limit 1
) as delayed on true;

-- The steps of a task, or one of them: by index, however small the tables were when a
-- connection made its plan.
create function tasker.states_of(its_task uuid, its_step_no int default null)
returns setof tasker.step_states
language plpgsql stable
set enable_seqscan = off
set jit = off
as $$
begin
    return query
    select * from tasker.step_states as step
    where step.task_uuid = its_task and (its_step_no is null or step.step_no = its_step_no);
end;
$$;

-- The last attempt that has ended of each step of a task, or of one of them.
create function tasker.last_attempts(its_task uuid, its_step_no int default null)
returns setof tasker.attempts
language plpgsql stable
set enable_seqscan = off
set jit = off
as $$
begin
    return query
    select distinct on (past.step_no) past.* from tasker.attempts as past
    where past.task_uuid = its_task and (its_step_no is null or past.step_no = its_step_no)
    order by past.step_no, past.attempt desc;
end;
$$;

-- How many steps of a task are in each state that occurs: {state: n}.
create function tasker.step_counts(its_task uuid) returns json
language sql stable
as $$
    select json_object_agg(counted.state, counted.total)
    from (
        select step.state, count(*) as total from tasker.states_of(its_task) as step
        group by step.state
    ) as counted
$$;

-- Every transition of a task (step_no null) or a step.
-- The history keeps one row an attempt; its three transitions are spelt out here.
-- What an operator did to a running step is told with actor and reason, not twice.
-- Of one moment, place says what came first.
create view tasker.transitions as
select
    a.task_uuid,
    a.step_no,
    move.from_state,
    move.to_state,
    move.moved_at,
    move.place,
    a.attempt,
    a.worker_uuid,
    null::text as action,
    null::text as actor,
    null::text as reason
from (
    select
        attempt.*,
        lag(attempt.outcome) over (
            partition by attempt.task_uuid, attempt.step_no order by attempt.attempt
        ) as outcome_before
    from tasker.attempts as attempt
) as a
cross join
    lateral (
        values
        (
            case
                when a.outcome_before = 'waiting_for_retry' then a.outcome_before else 'pending'
            end,
            'enqueued', a.enqueued_at, 1
        ),
        ('enqueued', 'in_progress', a.claimed_at, 2),
        ('in_progress', a.outcome, a.finished_at, 3)
    ) as move (from_state, to_state, moved_at, place)
where
    not (
        move.place = 3 and a.outcome in ('complete', 'resolved_manually')
        and a.ended_by is not null
    )
union all
select
    change.task_uuid,
    change.step_no,
    change.from_state,
    change.to_state,
    change.changed_at,
    case
        when change.step_no is null then change.change_no
        when change.from_state = 'in_progress' then 3
        else 0
    end as place,
    null,
    null,
    change.action,
    change.actor,
    change.reason
from tasker.changes as change;
