-- Follow what happens: the history of some tasks, and the changes of all.
--
-- The history of one task only grows, and under the task's lock: who has seen so many events
-- of it asks for those after them. The changes of all tasks have no such number, as their
-- transactions commit in any order; who has seen what a snapshot sees asks for what another
-- sees beyond it. So nothing is told twice, and nothing is passed over, however late a
-- transaction commits that began early.

-- One row an event: an attempt that ended, a change of a task, an operator's action on a step.
-- What an operator settled is told by the action, and not as an attempt.
create view tasker.history as
select
    a.task_uuid,
    a.step_no,
    a.attempt,
    null::int as change_no,
    'in_progress' as from_state,
    a.outcome as to_state,
    a.finished_at as moved_at,
    null::text as action,
    null::text as actor,
    null::text as reason,
    a.enqueued_at,
    a.claimed_at,
    a.due_at,
    a.execution_ms,
    a.worker_uuid,
    a.error
from tasker.attempts as a
where not (a.outcome in ('complete', 'resolved_manually') and a.ended_by is not null)
union all
select
    change.task_uuid,
    change.step_no,
    null,
    change.change_no,
    change.from_state,
    change.to_state,
    change.changed_at,
    change.action,
    change.actor,
    change.reason,
    null,
    null,
    null,
    null,
    null,
    null
from tasker.changes as change;

-- A moment as the API writes it, whatever the session's time zone.
create function tasker.rfc3339(moment timestamptz) returns text
language sql immutable
as $$
    select to_char(moment at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- What has happened to these tasks after so many events of each.
--
-- in     task_uuids; seen: how many events of each are known
-- out    a row a task with news, or that is not there any more; events: an array of objects, in
--        order, that begins with the last one known, if one is; at most max_events more
create function tasker.follow_tasks(task_uuids uuid[], seen int[], max_events int default 1000)
returns table (task_uuid uuid, is_there boolean, events json)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    return query
    select
        followed.task_uuid,
        task.task_uuid is not null,
        (
            select json_agg(json_build_object(
                'position', event.position, 'step_no', event.step_no, 'step', (
                    select step.name from tasker.steps as step
                    where step.task_uuid = followed.task_uuid and step.step_no = event.step_no
                ),
                'attempt', event.attempt, 'change_no', event.change_no,
                'from', event.from_state, 'to', event.to_state, 'moved_at', tasker.rfc3339(event.moved_at),
                'action', event.action, 'actor', event.actor, 'reason', event.reason,
                'enqueued_at', tasker.rfc3339(event.enqueued_at), 'claimed_at', tasker.rfc3339(event.claimed_at),
                'due_at', tasker.rfc3339(event.due_at), 'execution_ms', event.execution_ms,
                'worker_uuid', event.worker_uuid, 'error', event.error
            ) order by event.position)
            from (
                select own.*, row_number() over (
                    order by own.moved_at, own.step_no is null, own.change_no, own.step_no,
                        own.attempt
                ) as position
                from tasker.history as own
                where own.task_uuid = followed.task_uuid
            ) as event
            where event.position between followed.seen and followed.seen + max_events
        )
    from unnest(task_uuids, seen) as followed (task_uuid, seen)
    left join lateral (
        select t.task_uuid from tasker.tasks as t
        where t.task_uuid = followed.task_uuid limit 1
    ) as task on true
    where task.task_uuid is null or followed.seen <> (
        select count(*) from tasker.history as own where own.task_uuid = followed.task_uuid
    );
end;
$$;

-- What has happened to tasks as a whole between two snapshots.
--
-- in     after, until: snapshots; what is visible in the first is known, what is not in the
--        second is to come. The three after those: where the page before ended
-- out    creations (change_no 0) and changes of tasks, in the order of time; those of tasks
--        that have left meanwhile are left out
-- index  tasks_xid, changes_xid
create function tasker.task_changes(
    after pg_snapshot, until pg_snapshot, last_moment timestamptz, last_task uuid,
    last_change int, max_rows int
)
returns table (
    xid xid8, task_uuid uuid, change_no int, from_state text, to_state text,
    moved_at timestamptz, action text, actor text, reason text, namespace text, name text,
    version text, correlation_id uuid
)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    first_new constant xid8 := pg_snapshot_xmax(after);
    were_open constant xid8[] := array(select pg_snapshot_xip(after));
begin
    return query
    with told as (
        select
            c.xid, c.task_uuid, c.change_no, c.from_state, c.to_state, c.changed_at as moved_at,
            c.action, c.actor, c.reason
        from tasker.changes as c
        where c.step_no is null and c.xid >= first_new
        union all
        select
            c.xid, c.task_uuid, c.change_no, c.from_state, c.to_state, c.changed_at,
            c.action, c.actor, c.reason
        from tasker.changes as c
        where c.step_no is null and c.xid = any (were_open)
        union all
        select
            t.xid, t.task_uuid, 0, null, 'steps_in_process', t.created_at,
            'create', t.initiator, t.reason
        from tasker.tasks as t
        where t.xid >= first_new
        union all
        select
            t.xid, t.task_uuid, 0, null, 'steps_in_process', t.created_at,
            'create', t.initiator, t.reason
        from tasker.tasks as t
        where t.xid = any (were_open)
    )

    select
        told.*, task.namespace, template.name, template.version, task.correlation_id
    from told
    join tasker.tasks as task using (task_uuid)
    join tasker.templates as template using (template_uuid)
    where pg_visible_in_snapshot(told.xid, until)
        and (
            last_moment is null
            or (told.moved_at, told.task_uuid, told.change_no)
            > (last_moment, last_task, last_change)
        )
    order by told.moved_at, told.task_uuid, told.change_no
    limit max_rows;
end;
$$;
