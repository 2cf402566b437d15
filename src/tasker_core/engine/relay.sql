-- needs: clock.sql
-- Carry events from the outbox to whoever consumes them. One session at a time does it in a
-- database; a row leaves when its sink has confirmed it, so that each arrives at least once.
--
-- locks  a session's advisory lock; no rows but those that it takes away

-- Become the relay of this database, for as long as the session lives. Ask once a session.
create function tasker.lead_relay() returns boolean
language sql
as $$ select pg_try_advisory_lock(hashtext('tasker.relay')) $$;

-- The next events: those of one task in their order, the oldest task first.
--
-- in     held_tasks are left out, because one of their events has to wait
-- out    at least one, if there is any, and no more than fit into some 16 MB
create function tasker.next_events(max_events int, held_tasks uuid[])
returns setof tasker.outbox
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    waiting tasker.outbox;
    size bigint := 0;
begin
    for waiting in
        select * from tasker.outbox as o
        where o.task_uuid <> all (held_tasks)
        order by o.task_uuid, o.event_no
        limit max_events
    loop
        return next waiting;
        size := size + octet_length(waiting.event::text);
        exit when size > 16000000;
    end loop;
end;
$$;

-- Take away what has been delivered. The ids are asked for because numbers are used again.
create function tasker.confirm_events(task_uuids uuid[], event_nos int[], event_uuids uuid[])
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
    delete from tasker.outbox as o
    using unnest(task_uuids, event_nos, event_uuids) as sent (task_uuid, event_no, event_uuid)
    where o.task_uuid = sent.task_uuid
        and o.event_no = sent.event_no
        and o.event_uuid = sent.event_uuid;
end;
$$;

-- Count a try that failed although the sink was up; after the last one put the event aside.
--
-- out    whether it was put aside
create function tasker.refuse_event(its_task uuid, its_no int, why text, max_tries int)
returns boolean
language plpgsql
as $$
begin
    update tasker.outbox as o
    set tries = o.tries + 1, error = why
    where o.task_uuid = its_task and o.event_no = its_no;

    with gone as (
        delete from tasker.outbox as o
        where o.task_uuid = its_task and o.event_no = its_no and o.tries >= max_tries
        returning o.*
    )

    insert into tasker.failed_events (
        event_uuid, task_uuid, step_no, attempt, tries, recorded_at, failed_at, namespace, name,
        error, event
    )
    select
        g.event_uuid, g.task_uuid, g.step_no, g.attempt, g.tries, g.recorded_at, tasker.now(),
        g.namespace, g.name, why, g.event
    from gone as g
    on conflict (event_uuid) do nothing;
    return found;
end;
$$;

-- Put events that had been set aside into the outbox again, behind what their tasks have
-- there; null means all of them.
--
-- out    how many
-- locks  their tasks, as far as they are still there
-- tells  channel tasker_outbox
create function tasker.retry_events(event_uuids uuid[]) returns int
language plpgsql
as $$
declare
    retried int;
begin
    perform tasker.lock_tasks(array(
        select f.task_uuid from tasker.failed_events as f
        where event_uuids is null or f.event_uuid = any (event_uuids)
    ));

    with gone as (
        delete from tasker.failed_events as f
        where event_uuids is null or f.event_uuid = any (event_uuids)
        returning f.*
    )

    insert into tasker.outbox (
        task_uuid, event_no, event_uuid, step_no, attempt, recorded_at, namespace, name, event
    )
    select
        g.task_uuid,
        tasker.last_event_no(g.task_uuid)
        + row_number() over (partition by g.task_uuid order by g.recorded_at, g.step_no, g.attempt),
        g.event_uuid, g.step_no, g.attempt, g.recorded_at, g.namespace, g.name, g.event
    from gone as g;
    get diagnostics retried = row_count;
    if retried > 0 then
        perform pg_notify('tasker_outbox', '');
    end if;
    return retried;
end;
$$;

-- How the outbox is.
--
-- out    waiting: events in it, counted up to ten thousand; oldest_at: when the first of
--        these was recorded, and waited: how long ago; failed: those put aside; is_relayed:
--        whether a relay runs
create function tasker.outbox_state(
    out waiting int, out oldest_at timestamptz, out waited interval, out failed int,
    out is_relayed boolean
)
language sql
as $$
    select
        count(*), min(first.recorded_at), tasker.now() - min(first.recorded_at),
        (select count(*) from tasker.failed_events),
        exists (
            select from pg_locks as held
            where held.locktype = 'advisory'
                and held.database = (select oid from pg_database where datname = current_database())
                and held.objsubid = 1 -- of a key that is one number
                and (held.classid::bigint << 32 | held.objid::bigint) = hashtext('tasker.relay')
        )
    from (select o.recorded_at from tasker.outbox as o limit 10000) as first
$$;
