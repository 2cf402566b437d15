-- Add steps to a task that is running: what a decision chose, what a batch is cut into.
--
-- in     what templates/expansion.py planned: {"known_steps": int, "steps": [{"step_no", "name",
--        "template_step", "parents", "children", "inputs"}], "rewirings": [{"step_no",
--        "gains_parents", "loses_parents", "gains_children", "loses_children"}]};
--        ending are the steps of the task whose end is being recorded: their children are
--        counted down right after this
-- raises TK001 when the task has grown since the plan was made: plan again;
--        TK002 when a step that was to wait for more has begun
-- locks  nothing of its own: the caller holds the task

create function tasker.expand_task(its_task uuid, ending int[], expansion json) returns void
language plpgsql
as $$
declare
    known_count constant int := (expansion ->> 'known_steps')::int;
    begun text;
begin
    if known_count <> (select count(*) from tasker.steps as s where s.task_uuid = its_task) then
        raise exception 'task % has grown', its_task using errcode = 'TK001';
    end if;

    insert into tasker.steps (
        task_uuid, step_no, lane, first_delay_ms, max_delay_ms, max_attempts, backoff, name,
        template_step, parents, children, inputs, parents_left
    )
    select
        its_task, new.step_no, known.lane, known.first_delay_ms, known.max_delay_ms,
        known.max_attempts, known.backoff, new.name, nullif(new.template_step, new.name),
        new.parents, new.children, new.inputs,
        tasker.count_waits(its_task, new.parents, ending)
    from json_to_recordset(expansion -> 'steps') as new (
        step_no int, name text, template_step text, parents int[], children int[], inputs json
    )
    join tasker.tasks as task on task.task_uuid = its_task
    join tasker.template_steps as known
        on known.template_uuid = task.template_uuid and known.name = new.template_step;

    with wires as (
        select * from json_to_recordset(expansion -> 'rewirings') as wire (
            step_no int, gains_parents int[], loses_parents int[],
            gains_children int[], loses_children int[]
        )
    ),

    rewired as (
        update tasker.steps as step
        set
            parents = tasker.rewire(step.parents, wires.gains_parents, wires.loses_parents),
            children = tasker.rewire(step.children, wires.gains_children, wires.loses_children),
            parents_left = step.parents_left
            + tasker.count_waits(its_task, wires.gains_parents, ending)
            - tasker.count_waits(its_task, wires.loses_parents, ending)
        from wires
        where step.task_uuid = its_task and step.step_no = wires.step_no
        returning step.name, step.parents_left, wires.gains_parents, wires.loses_parents
    )

    select string_agg(rewired.name, ', ') into begun
    from rewired
    where cardinality(rewired.gains_parents) > 0 and 0 >= rewired.parents_left
        - tasker.count_waits(its_task, rewired.gains_parents, ending)
        + tasker.count_waits(its_task, rewired.loses_parents, ending);
    if begun is not null then
        raise exception '% has begun and cannot wait for more steps', begun using errcode = 'TK002';
    end if;

    -- a step all of whose parents are done already would be released by nobody
    insert into tasker.ready (task_uuid, step_no, lane, priority, attempt, enqueued_at)
    select step.task_uuid, step.step_no, step.lane, task.priority, 0, tasker.now()
    from tasker.steps as step
    join tasker.tasks as task using (task_uuid)
    where step.task_uuid = its_task and step.step_no > known_count and step.parents_left = 0
        and not (task.halts_on_failure and task.failed_count > 0);
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
        left join tasker.steps as parent
            on parent.task_uuid = its_task and parent.step_no = up.step_no
        where parent.step_no is null
            or parent.state not in ('complete', 'resolved_manually')
            or parent.step_no = any (ending)
    );
end;
$$;

create function tasker.rewire(present int[], gains int[], loses int[]) returns int[]
language sql immutable
as $$
    select coalesce(array_agg(number order by number), '{}')
    from (
        select unnest(present || gains) as number
        except
        select unnest(loses)
    ) as kept
$$;
