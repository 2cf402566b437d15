-- Take back what was dropped, then end what is over its time. Everyone may run it, now and
-- then; one at a time does the work.
--
-- out    how many attempts were taken back; the tasks that were ended for a limit, and those
--        that were put aside for one
-- locks  an advisory lock; the tasks of expired leases, of delayed steps and of those that
--        are to be looked at, skipping what others hold; then delayed, ready, leases
-- tells  channels tasker_ready, tasker_cancelled, tasker_outbox

create function tasker.sweep(
    max_attempts int default 500,
    out taken_back int, out ended_tasks uuid[], out filed_tasks uuid[]
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    moment constant timestamptz := tasker.now();
    its_error constant json := '{
        "message": "the worker did not renew its lease: it was killed, frozen or cut off",
        "error_type": "worker_lost", "retryable": true
    }';
    lost_tasks uuid[];
    lost record;
begin
    taken_back := 0;
    ended_tasks := '{}';
    filed_tasks := '{}';
    if not pg_try_advisory_xact_lock(hashtext('tasker.sweep')) then
        return;
    end if;

    delete from tasker.workers as worker where worker.seen_at < moment - interval '1 day';

    lost_tasks := array(
        select lease.task_uuid from tasker.leases as lease
        where lease.ends_at < moment
        order by lease.task_uuid
        limit max_attempts
    );
    -- whoever holds one of these tasks for long must not hold up the others
    lost_tasks := array(
        select task.task_uuid from tasker.tasks as task
        where task.task_uuid = any (lost_tasks)
        order by task.task_uuid
        for no key update skip locked
    );

    -- a renewal may have come first: look again, now that nobody can settle these leases
    select
        array_agg(held.worker_uuid) as workers,
        array_agg(held.task_uuid) as tasks,
        array_agg(held.step_no) as steps,
        array_agg(held.attempt) as attempts,
        count(*)::int as total
    into lost
    from (
        select * from tasker.leases as lease
        where lease.task_uuid = any (lost_tasks) and lease.ends_at < moment
        for update
    ) as held;
    if lost.total > 0 then
        perform tasker.settle_attempts(
            lost.workers, lost.tasks, lost.steps, lost.attempts,
            array_fill(null::json, array[lost.total]),
            array_fill(its_error, array[lost.total]),
            array_fill(true, array[lost.total]),
            array_fill(null::interval, array[lost.total]),
            array_fill(null::json, array[lost.total]),
            array_fill(null::real, array[lost.total]),
            null,
            null,
            tasker.lost_events(moment, lost.tasks, lost.steps, lost.attempts, its_error),
            null, '{}', '{}', 0, null
        );
        perform tasker.tell_ready(lost_tasks);
    end if;
    perform tasker.enqueue_due(tasker.now());
    -- last: what was lost has been given its next attempt
    select limits.ended_tasks, limits.filed_tasks into ended_tasks, filed_tasks
    from tasker.check_limits() as limits;
    taken_back := lost.total;
end;
$$;
