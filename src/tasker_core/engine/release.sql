-- needs: claim.sql
-- Count these steps' parents that are done, and release those that wait for no other: into the
-- hands of the worker that calls, if it can serve them, has room, nothing that ranks before
-- them waits, and no other namespace does; otherwise into the queue. What goes from hand to
-- hand is spared the way through the queue.
--
-- in     the steps, each once, and how many of its parents are done that were not before
-- locks  nothing of its own: the caller holds the tasks
-- out    the lanes of the steps that were enqueued; the tasks of all that were released;
--        and the steps that were handed over
create function tasker.release_children(
    moment timestamptz, task_uuids uuid[], step_nos int[], parents_done int[],
    for_worker uuid, lanes int[], looked_lanes int[], room int, lease interval,
    out released_lanes int[], out released_tasks uuid[],
    out handed_tasks uuid[], out handed_steps int[]
)
language plpgsql
as $$
declare
    best_waiting int; -- rank
    first_space text;
    last_space text;
    steps int[];
    in_lanes int[];
    ranks int[];
    past_attempts int[];
    handed_count int;
begin
    released_lanes := '{}';
    if room > 0 and looked_lanes <> '{}' then
        select min(head.rank), min(head.namespace), max(head.namespace)
        into best_waiting, first_space, last_space
        from tasker.heads(looked_lanes) as head;
    end if;

    with counted as (
        update tasker.steps as step
        set parents_left = step.parents_left - freed.parents_done
        from (
            select
                unnest(task_uuids) as task_uuid, unnest(step_nos) as step_no,
                unnest(parents_done) as parents_done
        ) as freed
        where step.task_uuid = freed.task_uuid and step.step_no = freed.step_no
        returning
            step.task_uuid, step.step_no, step.lane, step.attempt, step.parents_left, step.state,
            step.batch_of, step.failure_strategy, step.is_held
    ),

    released as (
        select
            c.task_uuid, c.step_no, c.lane, c.attempt, task.rank,
            c.lane = any (lanes) and (
                best_waiting is null
                or task.rank <= best_waiting
                    and task.namespace = first_space
                    and task.namespace = last_space
            ) as may_go
        from counted as c
        join tasker.tasks as task using (task_uuid)
        where c.parents_left = 0 and c.state = 'pending'
            and not c.is_held
            and not (task.failed_count > 0 and tasker.is_halted(
                task.task_uuid, task.halts_on_failure, c.batch_of, c.failure_strategy
            ))
        order by may_go desc, rank, task_uuid, step_no
    )

    select
        array_agg(task_uuid), array_agg(step_no), array_agg(lane), array_agg(rank),
        array_agg(attempt), least(room, count(*) filter (where may_go))
    into released_tasks, steps, in_lanes, ranks, past_attempts, handed_count
    from released;

    if handed_count > 0 then
        handed_tasks := released_tasks[:handed_count];
        handed_steps := steps[:handed_count];
        insert into tasker.leases (
            task_uuid, step_no, lane, rank, attempt, worker_uuid,
            enqueued_at, claimed_at, ends_at
        )
        select
            unnest(handed_tasks), unnest(handed_steps), unnest(in_lanes[:handed_count]),
            unnest(ranks[:handed_count]), unnest(past_attempts[:handed_count]) + 1,
            for_worker, moment, moment, moment + lease;
    end if;
    if handed_count < cardinality(released_tasks) then
        released_lanes := array(select distinct unnest(in_lanes[handed_count + 1:]));
        insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
        select
            unnest(released_tasks[handed_count + 1:]), unnest(steps[handed_count + 1:]),
            unnest(in_lanes[handed_count + 1:]), unnest(ranks[handed_count + 1:]),
            unnest(past_attempts[handed_count + 1:]), moment;
    end if;
end;
$$;

-- The steps that wait for these, for release_children.
create function tasker.children_of(
    parent_tasks uuid[], parent_steps int[],
    out task_uuids uuid[], out step_nos int[], out parents_done int[]
)
language plpgsql stable
as $$
begin
    select array_agg(freed.task_uuid), array_agg(freed.step_no), array_agg(freed.parents_done)
    into task_uuids, step_nos, parents_done
    from (
        select parent.task_uuid, child.step_no, count(*)::int as parents_done
        from unnest(parent_tasks, parent_steps) as done (task_uuid, step_no)
        join tasker.steps as parent using (task_uuid, step_no)
        cross join lateral unnest(parent.children) as child (step_no)
        group by parent.task_uuid, child.step_no
    ) as freed;
end;
$$;
