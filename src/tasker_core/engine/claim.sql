-- Hand ready steps to workers.

-- Everything that a handler needs, for every step on loan.
--
-- A context or a result of more than 32 kB, and the results of more than 16 parents,
-- are not sent along: the worker reads them when a handler asks, once a task.
-- (Only what is stored compressed, and may be short, is unpacked to be measured.)
create view tasker.work as
select
    'step' as kind, -- or 'next', or 'refused'
    lease.task_uuid,
    lease.step_no,
    lease.attempt,
    step.name,
    coalesce(step.template_step, step.name) as template_step,
    task.template_uuid,
    step.forgiven,
    step.max_attempts,
    lease.enqueued_at,
    lease.claimed_at,
    task.traceparent,
    task.correlation_id,
    task.parent_correlation_id,
    case
        when
            pg_column_size(task.context) <= 32768
            and (
                pg_column_compression(task.context) is null
                or octet_length(task.context::text) <= 32768
            )
            then task.context
    end as context,
    case
        when cardinality(step.parents) between 1 and 16 then (
            select json_object_agg(parent.name, parent.result)
            from unnest(step.parents) as up (step_no)
            -- "lateral … limit 1": one probe a parent, whatever the statistics say
            cross join
                lateral (
                    select
                        p.name,
                        p.result
                    from tasker.steps as p
                    where p.task_uuid = step.task_uuid and p.step_no = up.step_no
                    limit 1
                ) as parent
            where
                pg_column_size(parent.result) <= 32768
                and (
                    pg_column_compression(parent.result) is null
                    or octet_length(parent.result::text) <= 32768
                )
        )
    end as parent_results,
    step.inputs,
    step.checkpoint,
    lease.worker_uuid,
    null::interval as due_in,
    null::text as refusal
from tasker.leases as lease
join tasker.steps as step using (task_uuid, step_no)
join tasker.tasks as task using (task_uuid);

-- Move the best ready steps of these lanes to the worker's leases: an equal share of each
-- namespace that has any, and what one does not need to those after it.
create function tasker.take_ready(
    by_worker uuid, lanes int[], max_steps int, lease interval, out tasks uuid[], out steps int[]
)
language plpgsql
as $$
declare
    moment constant timestamptz := tasker.now();
    spaces int := 1;
    of_space record;
    taken record;
begin
    tasks := '{}';
    steps := '{}';
    for of_space in
        select
            array_agg(head.lane order by head.rank, head.task_uuid) as lanes,
            count(*) over (
                order by min(head.place) rows between current row and unbounded following
            ) as spaces_left
        from tasker.heads(lanes) as head
        group by head.namespace
        order by min(head.place)
    loop
        spaces := greatest(spaces, of_space.spaces_left);
        select * into taken from tasker.take_lanes(
            by_worker, of_space.lanes,
            ceil((max_steps - cardinality(tasks)) / of_space.spaces_left::float)::int,
            moment, lease
        );
        tasks := tasks || taken.tasks;
        steps := steps || taken.steps;
        exit when cardinality(tasks) >= max_steps;
    end loop;

    -- the first of several may have more than their share
    if spaces > 1 and cardinality(tasks) < max_steps then
        select * into taken from tasker.take_lanes(
            by_worker,
            array(select head.lane from tasker.heads(lanes) as head order by head.rank),
            max_steps - cardinality(tasks), moment, lease
        );
        tasks := tasks || taken.tasks;
        steps := steps || taken.steps;
    end if;
end;
$$;

-- Of these lanes, those in which a step waits: the rank of the first, and whose it is.
--
-- index  ready_order
create function tasker.heads(lanes int[])
returns table (lane int, namespace text, rank int, task_uuid uuid, place bigint)
language plpgsql
as $$
begin
    if cardinality(lanes) > 64 then
        lanes := tasker.busy_lanes(lanes, 64);
    end if;
    return query
    select served.lane, named.namespace, head.rank, head.task_uuid, served.place
    from unnest(lanes) with ordinality as served (lane, place)
    cross join lateral (
        select r.rank, r.task_uuid from tasker.ready as r
        where r.lane = served.lane
        order by r.rank, r.task_uuid
        limit 1
    ) as head
    cross join lateral (
        select l.namespace from tasker.lanes as l where l.lane = served.lane limit 1
    ) as named;
end;
$$;

-- Of many lanes, those in which a step waits, in the same order; all of them if steps wait in
-- more than `most` lanes, these or others: then nothing is gained by looking from the queue's end.
--
-- index  ready_order: from each lane in the queue to the next, one probe
create function tasker.busy_lanes(lanes int[], most int) returns int[]
language plpgsql
as $$
declare
    busy int[];
begin
    with recursive queued as (
        select (select r.lane from tasker.ready as r order by r.lane limit 1) as lane
        union all
        select (
            select r.lane from tasker.ready as r
            where r.lane > queued.lane
            order by r.lane
            limit 1
        ) as lane
        from queued
        where queued.lane is not null
    )

    select array_agg(seen.lane) filter (where seen.lane is not null) into busy
    from (select queued.lane from queued limit most + 1) as seen;

    if cardinality(busy) > most then
        return lanes;
    end if;
    return array(
        select served.lane
        from unnest(lanes) with ordinality as served (lane, place)
        where served.lane = any (busy)
        order by served.place
    );
end;
$$;

-- Move the best ready steps to the worker's leases, lane by lane.
--
-- index  ready_order: within a lane by rank, then by the age of the task
create function tasker.take_lanes(
    by_worker uuid, lanes int[], max_steps int, moment timestamptz, lease interval,
    out tasks uuid[], out steps int[]
)
language plpgsql
as $$
declare
    best_lane int;
    more_tasks uuid[];
    more_steps int[];
begin
    tasks := '{}';
    steps := '{}';

    foreach best_lane in array lanes loop
        with taken as (
            -- an array, not a join: the plan must stay an index scan however long the queue is
            delete from tasker.ready as gone
            where gone.ctid = any (array(
                select r.ctid from tasker.ready as r
                where r.lane = best_lane
                order by r.rank, r.task_uuid
                limit max_steps - cardinality(tasks)
                for update skip locked
            ))
            returning gone.*
        ),

        leased as (
            insert into tasker.leases (
                task_uuid, step_no, lane, rank, attempt, worker_uuid,
                enqueued_at, claimed_at, ends_at
            )
            select
                t.task_uuid, t.step_no, t.lane, t.rank, t.attempt + 1, by_worker,
                -- what was enqueued while this call looked elsewhere
                t.enqueued_at, greatest(moment, t.enqueued_at), moment + lease
            from taken as t
            order by t.rank, t.task_uuid, t.step_no
            returning task_uuid, step_no
        )

        select array_agg(leased.task_uuid), array_agg(leased.step_no)
        into more_tasks, more_steps
        from leased;

        tasks := tasks || coalesce(more_tasks, '{}');
        steps := steps || coalesce(more_steps, '{}');
        exit when cardinality(tasks) >= max_steps;
    end loop;
end;
$$;

-- Enqueue the delayed steps whose time has come.
--
-- locks  the tasks of those steps, skipping what others hold: they are found again
-- index  delayed_order
create function tasker.enqueue_due(moment timestamptz) returns void
language plpgsql
as $$
declare
    held_tasks uuid[];
begin
    held_tasks := array(
        select t.task_uuid from tasker.tasks as t
        where t.task_uuid = any (array(
            select d.task_uuid from tasker.delayed as d
            where d.due_at <= moment order by d.due_at limit 1000
        ))
        order by t.task_uuid
        for no key update skip locked
    );
    moment := tasker.now(); -- not before what was recorded of these tasks meanwhile

    with due as (
        delete from tasker.delayed as d
        where d.task_uuid = any (held_tasks) and d.due_at <= moment
        returning d.*
    )

    insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
    select due.task_uuid, due.step_no, due.lane, due.rank, due.attempt, moment from due;

    perform tasker.advance_tasks(moment, held_tasks);
    perform tasker.tell_ready(held_tasks);
end;
$$;

-- Wake idle workers: at most one notification a namespace and transaction.
create function tasker.tell_ready(of_tasks uuid[]) returns void
language sql
as $$
    select pg_notify('tasker_ready', task.namespace)
    from tasker.tasks as task where task.task_uuid = any (of_tasks)
$$;

-- What a worker holds by now: it asks after a lost connection, and begins what it
-- had not heard of.
create function tasker.held_steps(by_worker uuid) returns setof tasker.work
language sql
as $$ select * from tasker.work as work where work.worker_uuid = by_worker $$;
