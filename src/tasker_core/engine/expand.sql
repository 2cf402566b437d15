-- Add steps to a task that is running: what a decision chose, what a batch is cut into.
--
-- in     what templates/expansion.py planned: {"known_steps": int, "open_gates": [step_no],
--        "steps": [{"step_no", "name", "template_step", "parents", "children", "inputs",
--        and of a batch worker "batch_of", "parallelism", "failure_strategy", "is_held"}],
--        "new_children": [{"step_no", "children"}] of steps that exist};
--        ending are the steps of the task whose end is being recorded: their children are
--        counted down right after this
-- out    the lanes of the steps that are ready at once, null when there are none
-- raises TK001 when the task has grown since the plan was made, or a gate that was open
--        then has ended: plan again; program_limit_exceeded when a step's number would not
--        fit into its id
-- locks  nothing of its own: the caller holds the task

create function tasker.expand_task(its_task uuid, ending int[], expansion json) returns int[]
language plpgsql
as $$
declare
    known_count constant int := (expansion ->> 'known_steps')::int;
    gates constant int[] := array(
        select gate::int from json_array_elements_text(expansion -> 'open_gates') as gate
    );
    ready_lanes int[];
begin
    if known_count + json_array_length(expansion -> 'steps') > 1048575 then
        raise program_limit_exceeded using message = 'a task has at most 1048575 steps';
    end if;
    if known_count <> (select count(*) from tasker.steps as s where s.task_uuid = its_task) then
        raise exception 'task % has grown', its_task using errcode = 'TK001';
    end if;
    if exists (
        select from tasker.steps as gate
        where gate.task_uuid = its_task and gate.step_no = any (gates)
            and gate.state in ('complete', 'resolved_manually')
    ) then
        raise exception 'task % has moved on', its_task using errcode = 'TK001';
    end if;

    insert into tasker.steps (
        task_uuid, step_no, lane, first_delay_ms, max_delay_ms, max_attempts, backoff, name,
        template_step, parents, children, inputs, batch_of, parallelism, failure_strategy, is_held,
        parents_left
    )
    select
        its_task, new.step_no, known.lane, known.first_delay_ms, known.max_delay_ms,
        known.max_attempts, known.backoff, new.name, nullif(new.template_step, new.name),
        new.parents, new.children, new.inputs, new.batch_of, new.parallelism,
        new.failure_strategy, coalesce(new.is_held, false),
        tasker.count_waits(its_task, new.parents, ending)
    from json_to_recordset(expansion -> 'steps') as new (
        step_no int, name text, template_step text, parents int[], children int[], inputs json,
        batch_of int, parallelism int, failure_strategy text, is_held boolean
    )
    join tasker.tasks as task on task.task_uuid = its_task
    join tasker.template_steps as known
        on known.template_uuid = task.template_uuid and known.name = new.template_step;

    -- new numbers are higher than all that are there: the children stay in order
    update tasker.steps as step
    set children = step.children || parent.children
    from json_to_recordset(expansion -> 'new_children') as parent (step_no int, children int[])
    where step.task_uuid = its_task and step.step_no = parent.step_no;

    -- a step all of whose parents are done already would be released by nobody
    with freed as (
        insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
        select step.task_uuid, step.step_no, step.lane, task.rank, 0, tasker.now()
        from tasker.steps as step
        join tasker.tasks as task using (task_uuid)
        where step.task_uuid = its_task and step.step_no > known_count and step.parents_left = 0
            and not step.is_held
            and not (task.failed_count > 0 and tasker.is_halted(
                its_task, task.halts_on_failure, step.batch_of, step.failure_strategy
            ))
        returning lane
    )

    select array_agg(distinct freed.lane) into ready_lanes from freed;
    return ready_lanes;
end;
$$;

-- How many of these steps are not done, or are about to be counted down; those that are
-- being added are not done.
create function tasker.count_waits(its_task uuid, parents int[], ending int[]) returns int
language plpgsql stable
as $$
begin
    return (
        select count(*)
        from unnest(parents) as up (step_no)
        left join lateral (
            select s.step_no, s.state from tasker.steps as s
            where s.task_uuid = its_task and s.step_no = up.step_no
            limit 1
        ) as parent on true
        where parent.step_no is null
            or parent.state not in ('complete', 'resolved_manually')
            or parent.step_no = any (ending)
    );
end;
$$;
