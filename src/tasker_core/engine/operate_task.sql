-- What an operator may do with a task as a whole: cancel, resolve or reset it.
--
-- Each locks the task first, and is recorded with actor and reason in the same transaction.
--
-- out    refused_by: 'task' when its state forbids the action, null when it is done;
--        state: the state that forbids it (null: there is no such task), or the new one
-- tells  channel tasker_cancelled, when the task has ended: with its id

create function tasker.cancel_task(
    its_uuid uuid, by_actor text, why text, out refused_by text, out state text
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
    select * into task from tasker.lock_tasks(array[its_uuid]);
    if task.state is null or task.state in ('complete', 'error', 'cancelled', 'resolved_manually')
    then
        refused_by := 'task';
        state := task.state;
        return;
    end if;

    moment := tasker.stop_task(
        its_uuid, 'cancelled',
        '{"message": "the task was cancelled", "error_type": "cancelled", "retryable": false}'
    );
    perform tasker.record_action(
        moment, its_uuid,
        array(
            select step.step_no from tasker.steps as step
            where step.task_uuid = its_uuid and step.state in ('pending', 'error')
            order by step.step_no
        ),
        'cancelled', 'cancel', by_actor, why, null
    );
    update tasker.steps as step
    set state = 'cancelled', completed_at = moment, is_held = false
    where step.task_uuid = its_uuid and step.state in ('pending', 'error');

    perform tasker.change_task(moment, its_uuid, 'cancelled', 'cancel', by_actor, why);
    state := 'cancelled';
end;
$$;

-- Declare a task settled as a whole. Its steps stay as they are, but for those that run: these
-- are cancelled, and their workers' results refused. Nothing of it begins any more.
create function tasker.resolve_task(
    its_uuid uuid, by_actor text, why text, out refused_by text, out state text
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
    select * into task from tasker.lock_tasks(array[its_uuid]);
    if task.state is null or task.state in ('complete', 'error', 'cancelled', 'resolved_manually')
    then
        refused_by := 'task';
        state := task.state;
        return;
    end if;

    moment := tasker.stop_task(
        its_uuid, 'cancelled',
        '{"message": "an operator resolved the task", "error_type": "settled_by_operator",
          "retryable": false}'
    );
    perform tasker.change_task(moment, its_uuid, 'resolved_manually', 'resolve', by_actor, why);
    state := 'resolved_manually';
end;
$$;

-- Run every failed step of a task again: their attempts so far are forgiven. A task that was
-- given up is open again, also if no step of it has failed.
create function tasker.reset_task(
    its_uuid uuid, by_actor text, why text, drops_checkpoints boolean,
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
    failed_steps int[];
begin
    select * into task from tasker.lock_tasks(array[its_uuid]);
    failed_steps := array(
        select step.step_no from tasker.steps as step
        where step.task_uuid = its_uuid and step.has_failed order by step.step_no
    );
    if task.state is null
        or task.state in ('complete', 'cancelled', 'resolved_manually')
        or (failed_steps = '{}' and task.state <> 'error')
    then
        refused_by := 'task';
        state := task.state;
        return;
    end if;
    moment := tasker.now();

    perform tasker.record_action(
        moment, its_uuid, failed_steps, 'pending', 'reset', by_actor, why, null
    );
    update tasker.steps as step
    set
        state = 'pending',
        forgiven = step.attempt,
        checkpoint = case when not drops_checkpoints then step.checkpoint end,
        is_held = step.parallelism is not null -- its batch may be full
    where step.task_uuid = its_uuid and step.step_no = any (failed_steps);
    update tasker.tasks as t set failed_count = 0 where t.task_uuid = its_uuid;
    if task.state = 'error' then
        perform tasker.change_task(moment, its_uuid, 'steps_in_process', 'reset', by_actor, why);
    end if;
    perform tasker.resume_task(moment, its_uuid);
    state := (select t.state from tasker.tasks as t where t.task_uuid = its_uuid);
end;
$$;
