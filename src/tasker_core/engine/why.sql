-- needs: inspect.sql
-- Say why the steps of a task that are neither running nor done are where they are.
--
-- in     a worker that was not seen within this time does not count
-- out    one row for each such step, with exactly one cause; it is decided by the rows and
--        functions by which a claim, a release and a resume decide
--
--        failed                   for good: an operator has to deal with it
--        cancelled
--        task_ended               by an operator's word or by time, with this step open
--        waits_for_parents        detail: how many, and the first of them
--        blocked_by_failures      its own turn has come, but these steps have failed
--        waits_for_batch          as many of its batch as may run at a time come before it
--        waits_for_retry          detail: until when
--        no_worker_in_namespace   no live worker serves any lane of its namespace
--        no_worker_with_handler   none of those has the handler
--        waits_for_worker         those that have it are busy: detail: how many go before it

create function tasker.why(its_task uuid, seen_within interval)
returns table (step_no int, name text, state text, cause text, detail json)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    alive_since constant timestamptz := tasker.now() - seen_within;
    task tasker.tasks;
begin
    select * into task from tasker.tasks as t where t.task_uuid = its_task;
    return query
    select seen.step_no, seen.name, seen.state, found.cause, tasker.why_in_detail(found.cause, seen)
    from tasker.step_states as seen
    cross join lateral (
        select case
            when seen.state = 'error' then 'failed'
            when seen.state = 'cancelled' then 'cancelled'
            when task.completed_at is not null then 'task_ended'
            when seen.state = 'pending' and seen.parents_left > 0 then 'waits_for_parents'
            when seen.state = 'pending' and task.failed_count > 0 and tasker.is_halted(
                task.task_uuid, task.halts_on_failure, seen.batch_of, seen.failure_strategy
            ) then 'blocked_by_failures'
            when seen.is_held then 'waits_for_batch'
            when seen.due_at > tasker.now() then 'waits_for_retry'
            when not exists (
                select from tasker.workers as worker
                join tasker.lanes as served on served.lane = any (worker.lanes)
                where worker.seen_at > alive_since and served.namespace = task.namespace
            ) then 'no_worker_in_namespace'
            when not exists (
                select from tasker.workers as worker
                where worker.seen_at > alive_since and seen.lane = any (worker.lanes)
            ) then 'no_worker_with_handler'
            else 'waits_for_worker'
        end as cause
    ) as found
    where seen.task_uuid = its_task
        and seen.state not in ('complete', 'resolved_manually', 'in_progress')
    order by seen.step_no;
end;
$$;

-- How a step's last attempt failed: {"error_type", "message"}, of up to 200 characters each;
-- null when it did not fail.
create function tasker.last_error(its_task uuid, its_step_no int) returns json
language plpgsql stable
as $$
begin
    return (
        select case when past.error is not null then json_build_object(
            'error_type', left(past.error ->> 'error_type', 200),
            'message', left(past.error ->> 'message', 200)
        ) end
        from tasker.attempts as past
        where past.task_uuid = its_task and past.step_no = its_step_no
        order by past.attempt desc limit 1
    );
end;
$$;

-- What there is to say of a cause. Of many steps the first twenty are named.
create function tasker.why_in_detail(its_cause text, seen tasker.step_states) returns json
language plpgsql stable
as $$
begin
    return case its_cause
        when 'failed' then (
            select json_build_object('attempts', seen.attempt - seen.forgiven, 'error', past.error)
            from tasker.attempts as past
            where past.task_uuid = seen.task_uuid and past.step_no = seen.step_no
                and past.attempt = seen.attempt
        )
        when 'task_ended' then (
            select json_build_object('task_state', task.state)
            from tasker.tasks as task where task.task_uuid = seen.task_uuid
        )
        when 'waits_for_parents' then json_build_object('count', seen.parents_left, 'steps', (
            select json_strip_nulls(json_agg(open)) from (
                select parent.name, parent.state,
                    tasker.last_error(seen.task_uuid, parent.step_no) as error
                from unnest(seen.parents) as up (step_no)
                cross join lateral (
                    select * from tasker.step_states as p
                    where p.task_uuid = seen.task_uuid and p.step_no = up.step_no
                    limit 1
                ) as parent
                where parent.state not in ('complete', 'resolved_manually')
                order by parent.step_no limit 20
            ) as open
        ))
        when 'blocked_by_failures' then json_build_object('steps', (
            select json_strip_nulls(json_agg(failed)) from (
                select blocking.name, blocking.state,
                    tasker.last_error(seen.task_uuid, blocking.step_no) as error
                from tasker.steps as own
                join tasker.tasks as task using (task_uuid)
                cross join lateral tasker.blocking_steps(
                    own.task_uuid, task.halts_on_failure, own.batch_of, own.failure_strategy
                ) as blocking
                where own.task_uuid = seen.task_uuid and own.step_no = seen.step_no
                order by blocking.step_no
            ) as failed
        ))
        when 'waits_for_batch' then (
            select json_build_object('parallelism', step.parallelism)
            from tasker.steps as step
            where step.task_uuid = seen.task_uuid and step.step_no = seen.step_no
        )
        when 'waits_for_retry' then json_build_object(
            'due_at', seen.due_at, 'in_seconds', extract(epoch from seen.due_at - tasker.now()),
            'attempts', seen.attempt - seen.forgiven, 'max_attempts', seen.max_attempts,
            'error', tasker.last_error(seen.task_uuid, seen.step_no)
        )
        when 'waits_for_worker' then json_build_object('steps_before', (
            select count(*) from (
                select from tasker.ready as own
                join tasker.ready as other on other.lane = own.lane
                    and (other.rank, other.task_uuid) < (own.rank, own.task_uuid)
                where own.task_uuid = seen.task_uuid and own.step_no = seen.step_no
                limit 10000
            ) as before
        ))
        else (
            select json_build_object(
                'namespace', lane.namespace, 'callable', lane.callable, 'method', lane.method
            )
            from tasker.lanes as lane where lane.lane = seen.lane
        )
    end;
end;
$$;
