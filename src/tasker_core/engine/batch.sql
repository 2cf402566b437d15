-- Keep as many workers of a batch going as may run at a time, and note those that failed.
--
-- locks  nothing of their own: the callers hold the tasks

-- Let the next of these batches begin, as many as may run at a time.
--
-- index  steps_held
create function tasker.fill_batches(moment timestamptz, task_uuids uuid[], batches int[])
returns int[]
language plpgsql
as $$
declare
    batch record;
    begun_lanes int[];
    filled_lanes int[] := '{}';
begin
    for batch in
        select
            given.*, next.lane, next.failure_strategy, task.rank, task.failed_count,
            task.halts_on_failure,
            next.parallelism - tasker.count_batch(given.task_uuid, given.batch_of) as room
        from (
            select distinct * from unnest(task_uuids, batches) as given (task_uuid, batch_of)
        ) as given
        join tasker.tasks as task using (task_uuid)
        cross join lateral (
            select s.lane, s.failure_strategy, s.parallelism from tasker.steps as s
            where s.task_uuid = given.task_uuid and s.batch_of = given.batch_of and s.is_held
            limit 1
        ) as next
    loop
        continue when batch.room <= 0 or batch.failed_count > 0 and tasker.is_halted(
            batch.task_uuid, batch.halts_on_failure, batch.batch_of, batch.failure_strategy
        );

        with begun as (
            update tasker.steps as step
            set is_held = false
            where step.task_uuid = batch.task_uuid and step.step_no = any (array(
                select s.step_no from tasker.steps as s
                where s.task_uuid = batch.task_uuid and s.batch_of = batch.batch_of and s.is_held
                order by s.step_no
                limit batch.room
            ))
            returning step.*
        ),

        enqueued as (
            insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
            select b.task_uuid, b.step_no, b.lane, batch.rank, b.attempt, moment
            from begun as b where b.parents_left = 0
            returning lane
        )

        select array_agg(distinct e.lane) into begun_lanes from enqueued as e;
        filled_lanes := filled_lanes || begun_lanes;
    end loop;
    return filled_lanes;
end;
$$;

-- How many of a batch are ready, delayed or on loan.
create function tasker.count_batch(its_task uuid, its_batch int) returns int
language plpgsql stable
as $$
begin
    return (
        select count(*)
        from (
            select r.step_no from tasker.ready as r where r.task_uuid = its_task
            union all
            select d.step_no from tasker.delayed as d where d.task_uuid = its_task
            union all
            select l.step_no from tasker.leases as l where l.task_uuid = its_task
        ) as alive
        cross join lateral (
            select s.batch_of from tasker.steps as s
            where s.task_uuid = its_task and s.step_no = alive.step_no
            limit 1
        ) as step
        where step.batch_of = its_batch
    );
end;
$$;

-- Put tasks aside with the ranges that have failed so far, where the batch says `isolate`:
-- its other workers run on, and somebody is to look at what was left out. The first hundred
-- are told, and a cursor of up to a thousand bytes: with more, nothing is written any more.
--
-- index  steps_failed
create function tasker.set_ranges_aside(task_uuids uuid[]) returns void
language plpgsql
as $$
declare
    failed record;
begin
    for failed in
        select own.task_uuid, told.ranges
        from (select distinct one.task_uuid from unnest(task_uuids) as one (task_uuid)) as own
        cross join lateral (
            select jsonb_build_object(
                'failed_ranges', jsonb_agg(
                    jsonb_build_object(
                        'step', range.name,
                        'cursor', tasker.short_json(range.inputs -> 'cursor'),
                        'checkpoint', tasker.short_json(range.checkpoint -> 'cursor')
                    ) order by range.place
                ) filter (where range.place <= 100)
            ) || case when count(*) > 100 then '{"has_more_ranges": true}' else '{}' end::jsonb
                as ranges
            from (
                select
                    step.name, step.inputs, step.checkpoint,
                    row_number() over (order by step.batch_of, step.step_no) as place
                from tasker.steps as step
                where step.task_uuid = own.task_uuid and step.has_failed
                    and step.failure_strategy = 'isolate'
                order by step.batch_of, step.step_no
                limit 101
            ) as range
            having count(*) > 0
        ) as told
    loop
        if tasker.enter_dlq(failed.task_uuid, 'max_retries_exceeded', failed.ranges) is null then
            update tasker.dlq_entries as entry
            set metadata = coalesce(entry.metadata, '{}') - 'has_more_ranges' || failed.ranges,
                updated_at = tasker.now()
            where entry.task_uuid = failed.task_uuid and entry.resolution_status = 'pending'
                and (
                    entry.metadata -> 'failed_ranges' is distinct from
                    failed.ranges -> 'failed_ranges'
                    or entry.metadata ? 'has_more_ranges' <> failed.ranges ? 'has_more_ranges'
                );
        end if;
    end loop;
end;
$$;

-- A value that is to be kept where many are: null in place of a long one.
create function tasker.short_json(given json) returns json
language sql immutable
as $$
    select case when octet_length(given::text) <= 1000 then given end
$$;
