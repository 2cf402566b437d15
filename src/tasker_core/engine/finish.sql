-- needs: claim.sql release.sql
-- Record the results of attempts, wake the steps that waited for them, and hand the
-- worker its next steps: one round trip, one commit.
--
-- in     one entry a result in each array; error null means success; execution_ms is the time
--        in the handler; rest is the time
--        that the handler asked to wait before the next attempt, or null; expansion is
--        what a decision or a batch adds; with a checkpoint the attempt is not over: the
--        step is enqueued again and goes on from there; events are those that the outcome may
--        publish: see outbox.sql. An array of nothing but nulls may be null itself.
--        lanes are what the worker can serve, looked_lanes those of them in which something
--        may wait, those of a namespace side by side: of the namespaces with work the first
--        ones are served first; max_steps is what it has room for
-- out    a row of kind 'refused' for each result that came too late (the lease had
--        ended); one of kind 'step' a claimed step, best first; and one of kind 'next' with the
--        time until the next delayed step is due, if there is one. A result that is already
--        recorded is accepted once more, so a call whose commit is unknown can be repeated
-- locks  the tasks, in the order of their ids; then leases, ready
-- tells  channel tasker_ready, when a released step was not claimed here; tasker_outbox

create function tasker.finish_steps(
    by_worker uuid, task_uuids uuid[], step_nos int[], attempts int[],
    results json[], errors json[], retryables boolean[], rests interval[], metadatas json[],
    execution_ms real[], expansions json[], checkpoints json[], events json[],
    lanes int[], looked_lanes int[], max_steps int, lease interval
)
returns setof tasker.work
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    settled_count int;
    released_lanes int[];
    claimed_tasks uuid[] := '{}';
    claimed_steps int[] := '{}';
    taken record;
    message tasker.work;
begin
    if task_uuids <> '{}' then
        select s.released_lanes, s.settled_count, s.handed_tasks, s.handed_steps
        into released_lanes, settled_count, claimed_tasks, claimed_steps
        from tasker.settle_attempts(
            array_fill(by_worker, array[cardinality(task_uuids)]),
            task_uuids, step_nos, attempts, results, errors, retryables, rests, metadatas,
            execution_ms, expansions, checkpoints, events,
            by_worker, lanes, looked_lanes, max_steps, lease
        ) as s;
        if settled_count < cardinality(task_uuids) then
            return query
            select * from tasker.refused_results(
                by_worker, task_uuids, step_nos, attempts, checkpoints
            );
        end if;
    end if;

    -- results without lanes may be a handler's transaction, for which no other task is to wait
    if lanes <> '{}' or task_uuids = '{}' then
        select min(d.due_at) - tasker.now() into message.due_in from tasker.delayed as d;
        if message.due_in <= interval '0' then
            perform tasker.enqueue_due(tasker.now());
            select min(d.due_at) - tasker.now() into message.due_in from tasker.delayed as d;
        end if;
        if released_lanes <> '{}' then
            looked_lanes := looked_lanes || array(
                select unnest(released_lanes) intersect select unnest(lanes)
                except select unnest(looked_lanes)
            );
        end if;
        max_steps := max_steps - coalesce(cardinality(claimed_tasks), 0);
        if looked_lanes <> '{}' and max_steps > 0 then
            select * into taken from tasker.take_ready(by_worker, looked_lanes, max_steps, lease);
            claimed_tasks := claimed_tasks || taken.tasks;
            claimed_steps := claimed_steps || taken.steps;
        end if;
        if claimed_tasks <> '{}' then
            return query
            select work.*
            from (
                select unnest(claimed_tasks) as task_uuid, unnest(claimed_steps) as step_no
            ) as claimed
            cross join lateral (
                select * from tasker.work as w
                where w.task_uuid = claimed.task_uuid and w.step_no = claimed.step_no
                limit 1
            ) as work;
        end if;
        if message.due_in is not null then
            message.kind := 'next';
            return next message;
        end if;
    end if;

    if released_lanes <> '{}' then
        perform pg_notify('tasker_ready', lane.namespace)
        from tasker.lanes as lane
        where lane.lane = any (released_lanes) and exists (
            select from tasker.ready as r
            where r.task_uuid = any (task_uuids) and r.lane = lane.lane
        );
    end if;
end;
$$;

-- End attempts, each with its result: the one place where a step's outcome is decided.
--
-- out    the lanes of the steps that became ready, how many results counted, and the steps
--        that were released into the hands of for_worker
-- fence  only the lease of this worker and this attempt counts; the rest changes nothing
-- in     for_worker is who calls; null: the sweep, for workers that are lost
create function tasker.settle_attempts(
    worker_uuids uuid[], task_uuids uuid[], step_nos int[], attempts int[],
    results json[], errors json[], retryables boolean[], rests interval[], metadatas json[],
    execution_ms real[], expansions json[], checkpoints json[], events json[],
    for_worker uuid, lanes int[], looked_lanes int[], room int, lease interval,
    out released_lanes int[], out settled_count int, out handed_tasks uuid[], out handed_steps int[]
)
language plpgsql
as $$
declare
    moment timestamptz;
    done_tasks uuid[];
    done_steps int[];
    failed_tasks uuid[];
    isolated_tasks uuid[];
    halted_tasks uuid[];
    released_tasks uuid[];
    yielded_lanes int[];
    added_lanes int[];
    done_expansions json[];
    left_tasks uuid[];
    left_batches int[];
    places tid[];
    deleted_count int;
    moved_count int;
    freed_tasks uuid[];
    freed_steps int[];
    parents_done int[];
begin
    released_lanes := '{}';
    -- as lock_tasks does, without the way to a function and back
    select array_agg(held.task_uuid) filter (where held.failed_count > 0) into halted_tasks
    from (
        select task.task_uuid, task.failed_count from tasker.tasks as task
        where task.task_uuid = any (task_uuids)
        order by task.task_uuid
        for no key update
    ) as held;

    moment := tasker.now();

    with given as (
        -- side by side in the list, not in "from": that would make a table of each first
        select
            unnest(worker_uuids) as worker_uuid, unnest(task_uuids) as task_uuid,
            unnest(step_nos) as step_no, unnest(attempts) as attempt, unnest(results) as result,
            unnest(errors) as error, unnest(retryables) as retryable, unnest(rests) as rest,
            unnest(metadatas) as metadata, unnest(execution_ms) as handler_ms,
            unnest(checkpoints) as new_checkpoint, unnest(expansions) as expansion
    ),

    ended as (
        -- one probe a result, whatever the statistics say of a table that is empty at times
        select
            lease.*, given.result, given.error, given.retryable, given.rest, given.metadata,
            given.handler_ms, given.new_checkpoint, given.expansion
        from given
        cross join lateral (
            select own.ctid as place, own.* from tasker.leases as own
            where own.task_uuid = given.task_uuid
                and own.step_no = given.step_no
                and own.attempt = given.attempt
                and own.worker_uuid = given.worker_uuid
            limit 1
        ) as lease
    ),

    settled as (
        update tasker.steps as step
        set
            attempt = ended.attempt,
            forgiven = step.forgiven + (ended.new_checkpoint is not null)::int,
            state = case
                when ended.new_checkpoint is not null then 'pending'
                when ended.error is null then 'complete'
                when ended.retryable and ended.attempt - step.forgiven < step.max_attempts
                    then 'pending'
                else 'error'
            end,
            completed_at = case
                when ended.error is null and ended.new_checkpoint is null then moment
            end,
            checkpoint = coalesce(
                ended.new_checkpoint, case when ended.error is not null then step.checkpoint end
            ),
            result = ended.result
        from ended
        where step.task_uuid = ended.task_uuid and step.step_no = ended.step_no
        returning
            ended.place, ended.task_uuid, ended.step_no, ended.attempt, ended.worker_uuid,
            ended.lane, ended.rank, ended.enqueued_at, ended.claimed_at, ended.handler_ms,
            ended.error, ended.metadata, ended.expansion, step.batch_of, step.failure_strategy,
            step.children,
            case
                when ended.new_checkpoint is not null then 'enqueued'
                when step.state = 'pending' then 'waiting_for_retry'
                else step.state
            end as outcome,
            -- "least" passes over nulls: without a rest it would give an hour
            case when step.state = 'pending' then moment + coalesce(
                case
                    when ended.rest is not null
                        then least(greatest(ended.rest, interval '0'), interval '1 hour')
                end,
                tasker.retry_delay(
                    step.backoff, step.first_delay_ms, step.max_delay_ms,
                    ended.attempt - step.forgiven, random()
                )
            ) end as due_at
    ),

    recorded as (
        insert into tasker.attempts (
            task_uuid, step_no, attempt, worker_uuid, enqueued_at, claimed_at, finished_at,
            due_at, execution_ms, outcome, error, metadata, ended_by
        )
        select
            task_uuid, step_no, attempt, worker_uuid, enqueued_at, claimed_at, moment,
            due_at, handler_ms, outcome, error, metadata,
            case when for_worker is null then 'sweep' end
        from settled
        where outcome <> 'enqueued'
    ),

    postponed as (
        insert into tasker.delayed (task_uuid, step_no, lane, rank, attempt, due_at)
        select task_uuid, step_no, lane, rank, attempt, due_at
        from settled
        where outcome = 'waiting_for_retry'
    ),

    going_on as (
        insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
        select task_uuid, step_no, lane, rank, attempt, moment
        from settled
        where outcome = 'enqueued'
    ),

    freed as (
        select s.task_uuid, child.step_no, count(*)::int as parents_done
        from settled as s
        cross join lateral unnest(s.children) as child (step_no)
        where s.outcome = 'complete'
        group by s.task_uuid, child.step_no
    )

    select
        array_agg(s.task_uuid) filter (where s.outcome = 'complete'),
        array_agg(s.step_no) filter (where s.outcome = 'complete'),
        array_agg(s.task_uuid) filter (where s.outcome = 'error'),
        array_agg(s.task_uuid) filter (
            where s.outcome = 'error' and s.failure_strategy = 'isolate'
        ),
        array_agg(distinct s.lane) filter (where s.outcome = 'enqueued'),
        array_agg(s.expansion) filter (where s.outcome = 'complete'),
        array_agg(s.task_uuid) filter (
            where s.batch_of is not null and s.outcome in ('complete', 'error')
        ),
        array_agg(s.batch_of) filter (
            where s.batch_of is not null and s.outcome in ('complete', 'error')
        ),
        array_agg(s.place),
        count(*),
        (select array_agg(f.task_uuid) from freed as f),
        (select array_agg(f.step_no) from freed as f),
        (select array_agg(f.parents_done) from freed as f)
    into
        done_tasks, done_steps, failed_tasks, isolated_tasks, yielded_lanes, done_expansions,
        left_tasks, left_batches, places, settled_count, freed_tasks, freed_steps, parents_done
    from settled as s;
    if events is not null then
        perform tasker.record_events(
            moment, worker_uuids, task_uuids, step_nos, attempts, events
        );
    end if;
    delete from tasker.leases as gone where gone.ctid = any (places);
    get diagnostics deleted_count = row_count;
    if deleted_count < settled_count then
        -- a renewal has moved them meanwhile: to delete them takes the task's lock
        delete from tasker.leases as moved
        using unnest(worker_uuids, task_uuids, step_nos, attempts)
            as given (worker_uuid, task_uuid, step_no, attempt)
        where moved.task_uuid = given.task_uuid
            and moved.step_no = given.step_no
            and moved.attempt = given.attempt
            and moved.worker_uuid = given.worker_uuid;
        get diagnostics moved_count = row_count;
        if deleted_count + moved_count < settled_count then
            raise serialization_failure using message = 'a lease has ended meanwhile';
        end if;
    end if;

    if failed_tasks is not null then
        perform tasker.count_failures(failed_tasks);
    end if;
    if expansions is not null then
        select array_agg(distinct added.lane) into added_lanes
        from unnest(done_tasks, done_expansions) as planned (task_uuid, expansion)
        cross join
            lateral unnest(tasker.expand_task(
                planned.task_uuid,
                array(
                    select done.step_no
                    from unnest(done_tasks, done_steps) as done (task_uuid, step_no)
                    where done.task_uuid = planned.task_uuid
                ),
                planned.expansion
            )) as added (lane)
        where planned.expansion is not null;
        select f.* into freed_tasks, freed_steps, parents_done
        from tasker.children_of(done_tasks, done_steps) as f;
    end if;
    if freed_tasks is not null then
        select r.released_lanes, r.released_tasks, r.handed_tasks, r.handed_steps
        into released_lanes, released_tasks, handed_tasks, handed_steps
        from tasker.release_children(
            moment, freed_tasks, freed_steps, parents_done, for_worker, lanes, looked_lanes, room, lease
        ) as r;
    end if;
    released_lanes := released_lanes || yielded_lanes || added_lanes;
    if left_tasks is not null then
        released_lanes := released_lanes || tasker.fill_batches(moment, left_tasks, left_batches);
    end if;
    if failed_tasks is not null or halted_tasks is not null then
        perform tasker.park_steps(failed_tasks || halted_tasks);
    end if;
    -- a task with a released step is at work, as it was before: only the others need a look
    if released_tasks is distinct from task_uuids then
        perform tasker.advance_tasks(
            moment, array(select unnest(task_uuids) except select unnest(released_tasks))
        );
    end if;
    if isolated_tasks is not null then
        perform tasker.set_ranges_aside(isolated_tasks);
    end if;
end;
$$;

-- Take the tasks' locks, in the order of their ids. Whoever changes anything of a
-- task but a claim does this first, so that within one task nothing interleaves.
create function tasker.lock_tasks(task_uuids uuid[]) returns setof tasker.tasks
language plpgsql
as $$
begin
    return query
    select * from tasker.tasks as task
    where task.task_uuid = any (task_uuids)
    order by task.task_uuid
    for no key update;
end;
$$;

-- Move tasks on: here a task completes, blocks, waits for a retry, or is at work again.
--
-- locks  nothing of its own: the caller holds the tasks
create function tasker.advance_tasks(moment timestamptz, task_uuids uuid[]) returns void
language plpgsql
as $$
begin
    if task_uuids = '{}' then
        return;
    end if;

    -- "select true … limit 1", not "exists": the planner may turn that into a hash of the
    -- whole table, and keeps such a plan; "materialized", or each state is found four times
    with seen as materialized (
        select
            task.task_uuid,
            task.state as from_state,
            case
                when (select true from tasker.ready as r where r.task_uuid = task.task_uuid limit 1)
                    or (select true from tasker.leases as l where l.task_uuid = task.task_uuid limit 1)
                    then 'steps_in_process'
                when (select true from tasker.delayed as d where d.task_uuid = task.task_uuid limit 1)
                    then 'waiting_for_retry'
                when task.failed_count > 0 then 'blocked_by_failures'
                when (
                    select true from tasker.steps as step
                    where step.task_uuid = task.task_uuid
                        and step.state not in ('complete', 'resolved_manually')
                    limit 1
                ) then 'waiting_for_dependencies'
                else 'complete'
            end as to_state
        from tasker.tasks as task
        where task.task_uuid = any (task_uuids)
            and task.state not in ('complete', 'error', 'cancelled', 'resolved_manually')
    ),

    moved as (
        update tasker.tasks as task
        set
            state = seen.to_state,
            change_count = task.change_count + 1,
            completed_at = case when seen.to_state = 'complete' then moment end
        from seen
        where task.task_uuid = seen.task_uuid and seen.to_state <> seen.from_state
        returning task.task_uuid, task.change_count, seen.from_state, seen.to_state
    )

    insert into tasker.changes (task_uuid, change_no, from_state, to_state, changed_at, action)
    select task_uuid, change_count, from_state, to_state, moment, 'advance' from moved;
end;
$$;

-- Which of these results changed nothing because their lease had ended, and why.
-- A result that is recorded already, by an earlier call of the same worker, is none. Nor is a
-- checkpoint of an execution that has ended and left no trace in the history: only a yield does.
create function tasker.refused_results(
    by_worker uuid, task_uuids uuid[], step_nos int[], attempts int[], checkpoints json[]
)
returns setof tasker.work
language plpgsql
as $$
declare
    message tasker.work;
begin
    message.kind := 'refused';
    for message.task_uuid, message.step_no, message.attempt, message.refusal in
        select
            given.task_uuid, given.step_no, given.attempt,
            case
                when past.outcome = 'cancelled' then past.error ->> 'message'
                when past.ended_by = 'operator' then 'an operator settled it'
                when past.ended_by = 'limit' then 'the task ran out of time'
                else 'its lease had ended'
            end
        from unnest(task_uuids, step_nos, attempts, checkpoints)
            as given (task_uuid, step_no, attempt, checkpoint)
        left join tasker.attempts as past using (task_uuid, step_no, attempt)
        where (past.worker_uuid is null and (given.checkpoint is null or not exists (
            select from tasker.steps as step
            where step.task_uuid = given.task_uuid and step.step_no = given.step_no
                and step.attempt >= given.attempt
        )))
            or past.worker_uuid <> by_worker
            or past.ended_by is not null
    loop
        return next message;
    end loop;
end;
$$;
