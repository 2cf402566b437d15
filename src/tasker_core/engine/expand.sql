-- Add steps to a task that is running: what a decision chose, what a batch is cut into.
--
-- in     what templates/expansion.py planned: {"known_steps": int, "open_gates": [step_no],
--        "steps": [{"step_no", "name", "template_step", "parents", "children", "inputs"}],
--        "rewirings": [{"step_no", "gains_parents", "loses_parents", "gains_children",
--        "loses_children"}]};
--        ending are the steps of the task whose end is being recorded: their children are
--        counted down right after this
-- out    the lanes of the steps that are ready at once, null when there are none
-- raises TK001 when the task has grown since the plan was made, or a gate that was open
--        then has ended: plan again; TK002 when a step that was to wait for more has begun
-- locks  delayed, ready: what was enqueued and waits for more is taken out; the caller
--        holds the task

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

    perform tasker.hold_back(its_task, array(
        select wire.step_no
        from json_to_recordset(expansion -> 'rewirings') as wire (step_no int, gains_parents int[])
        where cardinality(wire.gains_parents) > 0
    ));

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

    update tasker.steps as step
    set
        parents = tasker.rewire(step.parents, wire.gains_parents, wire.loses_parents),
        children = tasker.rewire(step.children, wire.gains_children, wire.loses_children),
        parents_left = step.parents_left
        + tasker.count_waits(its_task, wire.gains_parents, ending)
        - tasker.count_waits(its_task, wire.loses_parents, ending)
    from json_to_recordset(expansion -> 'rewirings') as wire (
        step_no int, gains_parents int[], loses_parents int[],
        gains_children int[], loses_children int[]
    )
    where step.task_uuid = its_task and step.step_no = wire.step_no;

    -- a step all of whose parents are done already would be released by nobody
    with freed as (
        insert into tasker.ready (task_uuid, step_no, lane, priority, attempt, enqueued_at)
        select step.task_uuid, step.step_no, step.lane, task.priority, 0, tasker.now()
        from tasker.steps as step
        join tasker.tasks as task using (task_uuid)
        where step.task_uuid = its_task and step.step_no > known_count and step.parents_left = 0
            and not (task.halts_on_failure and task.failed_count > 0)
        returning lane
    )

    select array_agg(distinct freed.lane) into ready_lanes from freed;
    return ready_lanes;
end;
$$;

-- Take steps that are to wait for more out of the queue; refuse when one has begun.
--
-- locks  delayed, ready: in this order, and before leases are read, since a claim that is
--        under way moves a step from ready to leases
create function tasker.hold_back(its_task uuid, step_nos int[]) returns void
language plpgsql
as $$
declare
    begun text;
begin
    if step_nos = '{}' then
        return;
    end if;
    delete from tasker.delayed as d where d.task_uuid = its_task and d.step_no = any (step_nos);
    delete from tasker.ready as r where r.task_uuid = its_task and r.step_no = any (step_nos);

    select string_agg(step.name, ', ' order by step.step_no) into begun
    from tasker.steps as step
    where step.task_uuid = its_task and step.step_no = any (step_nos) and (
        step.state <> 'pending' or exists (
            select from tasker.leases as lease
            where lease.task_uuid = its_task and lease.step_no = step.step_no
        )
    );
    if begun is not null then
        raise exception '% has begun and cannot wait for more steps', begun using errcode = 'TK002';
    end if;
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
