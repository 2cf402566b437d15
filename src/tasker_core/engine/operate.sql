-- What an operator may do with a step: reset, resolve or complete it.
--
-- Each locks the task first, is recorded with actor and reason, and moves the task on
-- in the same transaction.
--
-- out    refused_by: 'task' or 'step' when its state forbids the action, null when it is done;
--        state: the state that forbids it (null: there is no such thing), or the new one
-- tells  channel tasker_cancelled, when a running step is settled: with the step's id

-- Run a failed step again: its attempts so far are forgiven. While another step of a
-- halted task is still in error, the step waits until that one is dealt with too.
create function tasker.reset_step(
    its_task uuid, its_step_no int, by_actor text, why text, drops_checkpoint boolean,
    out refused_by text, out state text
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    moment timestamptz;
    task tasker.tasks;
begin
    select * into task from tasker.lock_tasks(array[its_task]);
    if task.state in ('complete', 'cancelled', 'resolved_manually') then
        refused_by := 'task';
        state := task.state;
        return;
    end if;
    select seen.state into state from tasker.step_states as seen
    where seen.task_uuid = its_task and seen.step_no = its_step_no;
    if state is distinct from 'error' then
        refused_by := 'step';
        return;
    end if;
    moment := tasker.now();

    perform tasker.record_action(
        moment, its_task, array[its_step_no], 'pending', 'reset', by_actor, why, null
    );
    update tasker.steps as step
    set
        state = 'pending',
        forgiven = step.attempt,
        checkpoint = case when not drops_checkpoint then step.checkpoint end,
        is_held = step.parallelism is not null -- its batch may be full
    where step.task_uuid = its_task and step.step_no = its_step_no;
    update tasker.tasks as t set failed_count = t.failed_count - 1 where t.task_uuid = its_task;
    if task.state = 'error' then
        perform tasker.change_task(moment, its_task, 'steps_in_process', 'reset', by_actor, why);
    end if;
    perform tasker.resume_task(moment, its_task);
    state := 'pending';
end;
$$;

-- Settle a step by hand: next_state is complete, with a result, or resolved_manually, without.
-- A running step is settled only when forced; its worker's result is refused then.
-- The expansion is what the result of a decision or a batch adds, or null; events are what it
-- publishes, as in outbox.sql, or null.
create function tasker.settle_step(
    its_task uuid, its_step_no int, next_state text, its_result json, its_metadata json,
    expansion json, events json,
    by_actor text, why text, forced boolean,
    out refused_by text, out state text
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    moment timestamptz;
    task tasker.tasks;
    is_running boolean;
begin
    select * into task from tasker.lock_tasks(array[its_task]);
    if task.state in ('complete', 'cancelled', 'resolved_manually') then
        refused_by := 'task';
        state := task.state;
        return;
    end if;
    select seen.state into state from tasker.step_states as seen
    where seen.task_uuid = its_task and seen.step_no = its_step_no;
    if state is null or state in ('complete', 'cancelled', 'resolved_manually') then
        refused_by := 'step';
        return;
    end if;

    -- ready before leases: a claim that is under way moves the step in this direction
    delete from tasker.delayed as d where d.task_uuid = its_task and d.step_no = its_step_no;
    delete from tasker.ready as r where r.task_uuid = its_task and r.step_no = its_step_no;
    is_running := exists (
        select from tasker.leases as l where l.task_uuid = its_task and l.step_no = its_step_no
    );
    if is_running and not forced then
        refused_by := 'step';
        state := 'in_progress';
        return;
    end if;
    moment := tasker.now();

    perform tasker.record_action(
        moment, its_task, array[its_step_no], next_state,
        case next_state when 'complete' then 'complete' else 'resolve' end,
        by_actor, why, its_metadata
    );
    perform tasker.end_leases(
        moment, its_task, its_step_no, next_state,
        '{"message": "an operator settled the step", "error_type": "settled_by_operator",
          "retryable": false}'
    );
    if is_running then
        perform pg_notify('tasker_cancelled', tasker.step_uuid(its_task, its_step_no)::text);
    end if;
    update tasker.steps as step
    set
        state = next_state, result = its_result, completed_at = moment, checkpoint = null,
        is_held = false
    where step.task_uuid = its_task and step.step_no = its_step_no;

    if events is not null then
        perform tasker.add_events(
            moment, array[its_task], array[its_step_no], array[0], array[next_state],
            array[events]
        );
    end if;
    if state = 'error' then
        update tasker.tasks as t
        set failed_count = t.failed_count - 1
        where t.task_uuid = its_task;
    end if;
    if task.state = 'error' then
        perform tasker.change_task(moment, its_task, 'steps_in_process', 'resolve', by_actor, why);
    end if;
    if expansion is not null then
        perform tasker.expand_task(its_task, array[its_step_no], expansion);
    end if;
    perform
        tasker.release_children(
            moment, f.task_uuids, f.step_nos, f.parents_done, null, '{}', '{}', 0, null
        )
    from tasker.children_of(array[its_task], array[its_step_no]) as f
    where f.task_uuids is not null;
    perform tasker.resume_task(moment, its_task);
    state := next_state;
end;
$$;

-- Let nothing of a task run or begin: its running attempts end so, with this error, and
-- what was enqueued or delayed is parked. Workers hear of it.
--
-- out    the moment of it, which is after every claim that was under way
create function tasker.stop_task(its_task uuid, its_outcome text, its_error json)
returns timestamptz
language plpgsql
as $$
declare
    moment timestamptz;
begin
    -- ready before leases: a claim that is under way moves a step in this direction
    delete from tasker.delayed as d where d.task_uuid = its_task;
    delete from tasker.ready as r where r.task_uuid = its_task;
    moment := tasker.now();
    perform tasker.end_leases(moment, its_task, null, its_outcome, its_error);
    perform pg_notify('tasker_cancelled', its_task::text);
    return moment;
end;
$$;

-- End the running attempts of a task, or of one of its steps, from outside. A step that is
-- settled by hand gets its state from whoever settles it. One that fails so publishes what
-- it can without its worker.
create function tasker.end_leases(
    moment timestamptz, its_task uuid, its_step_no int, its_outcome text, its_error json
)
returns void
language plpgsql
as $$
declare
    lost record;
begin
    with ended as (
        delete from tasker.leases as lease
        where lease.task_uuid = its_task
            and (its_step_no is null or lease.step_no = its_step_no)
        returning lease.*
    ),

    settled as (
        update tasker.steps as step
        set
            attempt = ended.attempt,
            state = case
                when its_outcome in ('cancelled', 'error') then its_outcome else step.state
            end,
            completed_at = case when its_outcome = 'cancelled' then moment end
        from ended
        where step.task_uuid = ended.task_uuid and step.step_no = ended.step_no
    ),

    failed as (
        update tasker.tasks as task
        set failed_count = task.failed_count + (select count(*) from ended)
        where task.task_uuid = its_task and its_outcome = 'error'
    ),

    recorded as (
        insert into tasker.attempts (
            task_uuid, step_no, attempt, worker_uuid, enqueued_at, claimed_at, finished_at,
            outcome, error, ended_by
        )
        select
            ended.task_uuid, ended.step_no, ended.attempt, ended.worker_uuid, ended.enqueued_at,
            ended.claimed_at, moment, its_outcome, its_error,
            case its_outcome when 'error' then 'limit' else 'operator' end
        from ended
        returning task_uuid, step_no, attempt, outcome
    )

    select
        array_agg(r.task_uuid) as tasks,
        array_agg(r.step_no) as steps,
        array_agg(r.attempt) as attempts,
        array_agg(r.outcome) as outcomes
    into lost
    from recorded as r;
    if its_outcome = 'error' then
        perform tasker.add_events(
            moment, lost.tasks, lost.steps, lost.attempts, lost.outcomes,
            tasker.lost_events(moment, lost.tasks, lost.steps, lost.attempts, its_error)
        );
    end if;
end;
$$;

-- Enqueue whatever may run again, and see where the task stands. A step that was parked
-- while it waited for a retry waits on; how long the task has taken is counted anew.
create function tasker.resume_task(moment timestamptz, its_task uuid) returns void
language plpgsql
as $$
declare
    held_batches int[];
begin
    with resumed as (
        select seen.task_uuid, seen.step_no, seen.lane, task.rank, seen.attempt, past.due_at
        from tasker.step_states as seen
        join tasker.tasks as task using (task_uuid)
        left join lateral (
            select a.due_at from tasker.attempts as a
            where a.task_uuid = its_task and a.step_no = seen.step_no and a.attempt = seen.attempt
            limit 1
        ) as past on true
        where seen.task_uuid = its_task
            and seen.state = 'pending'
            and seen.parents_left = 0
            and not seen.is_held
            and not (task.failed_count > 0 and tasker.is_halted(
                its_task, task.halts_on_failure, seen.batch_of, seen.failure_strategy
            ))
    ),

    postponed as (
        insert into tasker.delayed (task_uuid, step_no, lane, rank, attempt, due_at)
        select r.task_uuid, r.step_no, r.lane, r.rank, r.attempt, r.due_at
        from resumed as r where r.due_at > moment
    )

    insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
    select r.task_uuid, r.step_no, r.lane, r.rank, r.attempt, moment
    from resumed as r where (r.due_at > moment) is not true;

    held_batches := array(
        select distinct held.batch_of from tasker.steps as held
        where held.task_uuid = its_task and held.is_held
    );
    perform tasker.fill_batches(
        moment, array_fill(its_task, array[cardinality(held_batches)]), held_batches
    );

    perform tasker.advance_tasks(moment, array[its_task]);
    perform tasker.watch_tasks(moment, array[its_task]);
    perform tasker.tell_ready(array[its_task]);
end;
$$;

-- Write down an operator's action on steps, while they still are in their old state.
-- The old state is the one in which history left a step: that it was enqueued after
-- that is told only when an attempt ends.
create function tasker.record_action(
    moment timestamptz, its_task uuid, its_step_nos int[], new_state text,
    its_action text, by_actor text, why text, its_metadata json
)
returns void
language plpgsql
as $$
begin
    with before as (
        update tasker.tasks as task
        set change_count = task.change_count + cardinality(its_step_nos)
        where task.task_uuid = its_task
        returning task.change_count - cardinality(its_step_nos) as change_count
    )

    insert into tasker.changes
    select
        its_task, before.change_count + acted.position, acted.step_no,
        case
            when lease.task_uuid is not null then 'in_progress'
            when acted.state = 'pending' and past.outcome = 'waiting_for_retry' then past.outcome
            else acted.state
        end,
        new_state, moment, its_action, by_actor, why, its_metadata
    from before
    cross join (
        select
            step.step_no, step.state, step.attempt,
            row_number() over (order by step.step_no) as position
        from tasker.steps as step
        where step.task_uuid = its_task and step.step_no = any (its_step_nos)
    ) as acted
    left join lateral (
        select * from tasker.leases as l
        where l.task_uuid = its_task and l.step_no = acted.step_no
        limit 1
    ) as lease on true
    left join lateral (
        select a.outcome from tasker.attempts as a
        where a.task_uuid = its_task and a.step_no = acted.step_no and a.attempt = acted.attempt
        limit 1
    ) as past on true;
end;
$$;

-- Move a task on an operator's word, or on its time's.
create function tasker.change_task(
    moment timestamptz, its_task uuid, new_state text, its_action text, by_actor text, why text
)
returns void
language plpgsql
as $$
begin
    with changed as (
        update tasker.tasks as task
        set
            state = new_state,
            change_count = task.change_count + 1,
            failed_count = case when new_state = 'cancelled' then 0 else task.failed_count end,
            completed_at = case
                when new_state in ('complete', 'error', 'cancelled', 'resolved_manually')
                    then moment
            end
        from tasker.tasks as before
        where task.task_uuid = its_task and before.task_uuid = its_task
        returning task.change_count, before.state as old_state
    )

    insert into tasker.changes
    select
        its_task, changed.change_count, null, changed.old_state, new_state, moment,
        its_action, by_actor, why
    from changed;
end;
$$;
