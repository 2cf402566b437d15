-- needs: clock.sql
-- Keep, give back and show what a worker has on loan.

-- Extend the leases of steps that are still running: one statement for all of them.
--
-- out    the steps whose lease is gone: their results would be refused
-- locks  the leases, skipping those that are being settled at this moment
create function tasker.renew_leases(
    by_worker uuid, task_uuids uuid[], step_nos int[], attempts int[], lease interval
)
returns table (task_uuid uuid, step_no int, attempt int)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    until constant timestamptz := tasker.now() + lease;
begin
    update tasker.leases as l
    set ends_at = until
    where l.ctid = any (array(
        select own.ctid
        from unnest(task_uuids, step_nos, attempts) as running (task_uuid, step_no, attempt)
        join tasker.leases as own using (task_uuid, step_no, attempt)
        where own.worker_uuid = by_worker
        for update of own skip locked
    ));

    return query
    select running.*
    from unnest(task_uuids, step_nos, attempts) as running (task_uuid, step_no, attempt)
    where not exists (
        select from tasker.leases as own
        where own.task_uuid = running.task_uuid and own.step_no = running.step_no
            and own.attempt = running.attempt and own.worker_uuid = by_worker
    );
end;
$$;

-- Return steps that a stopping worker claimed and has not begun: not an attempt.
--
-- locks  the tasks, then leases
-- tells  channel tasker_ready
create function tasker.give_back(
    by_worker uuid, task_uuids uuid[], step_nos int[], attempts int[]
)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
    perform tasker.lock_tasks(task_uuids);

    with returned as (
        delete from tasker.leases as lease
        using unnest(task_uuids, step_nos, attempts) as given (task_uuid, step_no, attempt)
        where lease.task_uuid = given.task_uuid
            and lease.step_no = given.step_no
            and lease.attempt = given.attempt
            and lease.worker_uuid = by_worker
        returning lease.*
    )

    insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
    select r.task_uuid, r.step_no, r.lane, r.rank, r.attempt - 1, r.enqueued_at
    from returned as r;

    perform tasker.park_steps(task_uuids);
    perform tasker.advance_tasks(tasker.now(), task_uuids);
    perform tasker.tell_ready(task_uuids);
end;
$$;

-- Say that a worker is alive, and which lanes it can serve.
create function tasker.beat(
    of_worker uuid, its_host text, its_pid int, its_version text, its_concurrency int,
    its_lanes int[]
)
returns void
language sql
as $$
    insert into tasker.workers as worker
    values (
        of_worker, its_host, its_pid, its_version, its_concurrency,
        tasker.now(), tasker.now(), its_lanes
    )
    on conflict (worker_uuid) do update
    set seen_at = tasker.now(), lanes = its_lanes
$$;
