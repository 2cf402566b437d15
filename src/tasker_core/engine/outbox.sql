-- needs: inspect.sql
-- Durable events: written in the transaction of the outcome that they tell.
--
-- in     events: for each ended attempt null, or the events that it may publish, a JSON array
--        of {"condition", "event"}. The condition is success, failure, retryable_failure,
--        permanent_failure or always; the event is what consumers get, and has "event_id" and
--        "event_name". Those whose condition the outcome meets go into the outbox
-- locks  nothing of its own: the caller holds the tasks, so the events of a task are numbered
--        in the order in which they are recorded
-- tells  channel tasker_outbox, once a transaction

-- Record the events of attempts that have just been settled: their leases are still there.
create function tasker.record_events(
    moment timestamptz, worker_uuids uuid[], task_uuids uuid[], step_nos int[], attempts int[],
    events json[]
)
returns void
language plpgsql
as $$
declare
    ended record;
begin
    select
        array_agg(given.task_uuid) as tasks,
        array_agg(given.step_no) as steps,
        array_agg(given.attempt) as attempts,
        array_agg(past.outcome) as outcomes,
        array_agg(given.events) as events
    into ended
    from unnest(worker_uuids, task_uuids, step_nos, attempts, events)
        as given (worker_uuid, task_uuid, step_no, attempt, events)
    cross join lateral (
        select true from tasker.leases as own
        where own.task_uuid = given.task_uuid
            and own.step_no = given.step_no
            and own.attempt = given.attempt
            and own.worker_uuid = given.worker_uuid
        limit 1
    ) as held
    cross join lateral (
        select a.outcome from tasker.attempts as a
        where a.task_uuid = given.task_uuid
            and a.step_no = given.step_no
            and a.attempt = given.attempt
        limit 1
    ) as past
    where given.events is not null;

    perform tasker.add_events(
        moment, ended.tasks, ended.steps, ended.attempts, ended.outcomes, ended.events
    );
end;
$$;

-- Put into the outbox what these outcomes publish.
create function tasker.add_events(
    moment timestamptz, task_uuids uuid[], step_nos int[], attempts int[], outcomes text[],
    events json[]
)
returns void
language plpgsql
as $$
begin
    with due as (
        select
            ended.task_uuid, ended.step_no, ended.attempt, candidate.told -> 'event' as event,
            row_number() over (
                partition by ended.task_uuid order by ended.step_no, candidate.place
            ) as place
        from unnest(task_uuids, step_nos, attempts, outcomes, events)
            as ended (task_uuid, step_no, attempt, outcome, events)
        cross join lateral json_array_elements(ended.events) with ordinality
            as candidate (told, place)
        where case candidate.told ->> 'condition'
            when 'success' then ended.outcome = 'complete'
            when 'failure' then ended.outcome in ('waiting_for_retry', 'error')
            when 'retryable_failure' then ended.outcome = 'waiting_for_retry'
            when 'permanent_failure' then ended.outcome = 'error'
            when 'always' then true
        end
    )

    insert into tasker.outbox (
        task_uuid, event_no, event_uuid, step_no, attempt, recorded_at, namespace, name, event
    )
    select
        due.task_uuid, due.place + tasker.last_event_no(due.task_uuid),
        (due.event ->> 'event_id')::uuid, due.step_no, due.attempt, moment, task.namespace,
        due.event ->> 'event_name', due.event
    from due
    join tasker.tasks as task using (task_uuid);
    if found then
        perform pg_notify('tasker_outbox', '');
    end if;
end;
$$;

-- The number of the last event of a task that is still in the outbox. What has left was
-- delivered before, so that numbers may be used again.
create function tasker.last_event_no(its_task uuid) returns int
language sql stable
as $$
    select coalesce(max(o.event_no), 0) from tasker.outbox as o where o.task_uuid = its_task
$$;

-- The id of an event: the first 16 bytes of SHA-256 over the step's id and "attempt:name",
-- marked as a UUID of version 8. Python computes the same, see event_rules.py.
create function tasker.event_uuid(step_uuid uuid, attempt int, name text) returns uuid
language plpgsql immutable
as $$
declare
    digest bytea := substr(
        sha256(uuid_send(step_uuid) || convert_to(attempt || ':' || name, 'UTF8')), 1, 16
    );
begin
    digest := set_byte(digest, 6, get_byte(digest, 6) & 15 | 128);
    digest := set_byte(digest, 8, get_byte(digest, 8) & 63 | 128);
    return encode(digest, 'hex')::uuid;
end;
$$;

-- What attempts publish that failed without their worker, with this error: nobody can make a
-- payload of the application's, so it is {"step_name", "attempt", "error_type",
-- "error_message"}; or empty, if that is all that the event's schema allows. Events whose
-- schema allows neither are not known here, see outbox.py.
--
-- out    as events above; null when none of these steps declares any
create function tasker.lost_events(
    moment timestamptz, task_uuids uuid[], step_nos int[], attempts int[], its_error json
)
returns json[]
language sql
as $$
    select case when count(told.events) > 0 then array_agg(told.events order by lost.place) end
    from unnest(task_uuids, step_nos, attempts) with ordinality
        as lost (task_uuid, step_no, attempt, place)
    cross join lateral (
        select (
            select json_agg(json_build_object(
                'condition', declared ->> 'condition',
                'event', json_build_object(
                    'event_id', tasker.event_uuid(its.step_uuid, lost.attempt, declared ->> 'name'),
                    'event_name', declared ->> 'name',
                    'event_version', '1.0',
                    'metadata', json_build_object(
                        'task_uuid', lost.task_uuid,
                        'correlation_id', task.correlation_id,
                        'fired_at',
                        to_char(moment at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
                        'fired_by', 'sweep',
                        'step_uuid', its.step_uuid,
                        'step_name', step.name,
                        'namespace', task.namespace
                    ),
                    'payload', case
                        when (declared ->> 'is_empty')::boolean then json_build_object()
                        else json_build_object(
                            'step_name', step.name,
                            'attempt', lost.attempt - step.forgiven,
                            'error_type', its_error ->> 'error_type',
                            'error_message', its_error ->> 'message'
                        )
                    end,
                    'execution_result', json_build_object(
                        'success', false,
                        'result', null,
                        'error_message', its_error ->> 'message',
                        'error_type', its_error ->> 'error_type',
                        'execution_time_ms', null
                    )
                )
            ))
            from json_array_elements(planned.lost_events) as declared
        ) as events
        from tasker.steps as step
        join tasker.tasks as task using (task_uuid)
        left join tasker.template_steps as planned
            on planned.template_uuid = task.template_uuid
            and planned.name = coalesce(step.template_step, step.name)
        cross join lateral tasker.step_uuid(step.task_uuid, step.step_no) as its (step_uuid)
        where step.task_uuid = lost.task_uuid and step.step_no = lost.step_no
        limit 1
    ) as told
$$;
