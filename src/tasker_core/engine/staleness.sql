-- needs: clock.sql
-- End, or put aside, the tasks that are over a limit of their template, and report the others.
--
-- A template without limits lets its tasks take as long as they like: nothing here looks at
-- them but the report. Limits are as templates/limits.py describes.

-- Look at the watched tasks whose time to be looked at has come. It is the sweep's part.
--
-- out    the tasks that were ended, and those for which a dead letter was written
-- locks  those tasks, skipping what others hold: they are found again; for a task that is
--        ended also its delayed, ready, leases
-- index  watched_order
-- tells  channels tasker_cancelled, tasker_outbox
create function tasker.check_limits(
    max_tasks int default 500, out ended_tasks uuid[], out filed_tasks uuid[]
)
language plpgsql
as $$
declare
    moment timestamptz := tasker.now();
    held_tasks uuid[];
    late record;
    done record;
begin
    ended_tasks := '{}';
    filed_tasks := '{}';
    if not exists (select from tasker.watched as w where w.look_at <= moment) then
        return;
    end if;

    held_tasks := array(
        select t.task_uuid from tasker.tasks as t
        where t.task_uuid = any (array(
            select w.task_uuid from tasker.watched as w
            where w.look_at <= moment order by w.look_at limit max_tasks
        ))
        order by t.task_uuid
        for no key update skip locked
    );
    moment := tasker.now(); -- not before what was recorded of these tasks meanwhile

    -- all looks are one statement: what follows changes only what it found
    for late in select * from tasker.look_at_limits(moment, held_tasks) loop
        update tasker.watched as w set look_at = late.next_look_at
        where w.task_uuid = late.task_uuid;
        if late.verdict is not null then
            begin
                select * into done from tasker.act_on_limit(
                    moment, late.task_uuid, late.verdict, late.facts, late.fails, late.files
                );
                if done.is_ended then
                    ended_tasks := ended_tasks || late.task_uuid;
                end if;
                if done.is_filed then
                    filed_tasks := filed_tasks || late.task_uuid;
                end if;
            exception when others then -- one task must not stop the sweep; it is looked at again
                raise warning 'task % could not be ended: %', late.task_uuid, sqlerrm;
            end;
        end if;
    end loop;

    delete from tasker.watched as w
    using tasker.tasks as task
    where w.task_uuid = any (held_tasks) and task.task_uuid = w.task_uuid
        and task.completed_at is not null;
end;
$$;

-- Say of each task whether it is over a limit (verdict: task_timeout, staleness_timeout,
-- give_up, or null), what is to be done then, and when it can be over one at the earliest.
-- facts: {"limit", "limit_seconds", "seconds", "state"}.
--
-- locks  nothing of its own: the caller holds the tasks
create function tasker.look_at_limits(moment timestamptz, task_uuids uuid[])
returns table (
    task_uuid uuid, verdict text, facts jsonb, fails boolean, files boolean,
    next_look_at timestamptz
)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select
        clock.task_uuid,
        seen.verdict,
        jsonb_build_object(
            'state', clock.state,
            'limit', case seen.verdict when 'task_timeout' then 'duration' else clock.state end,
            'limit_seconds', clock.limits -> case seen.verdict
                when 'task_timeout' then 'duration' else clock.state
            end,
            'seconds', round(extract(epoch from moment - case seen.verdict
                when 'task_timeout' then clock.began_at else clock.idle_since
            end), 3)
        ),
        seen.verdict = 'give_up' or (clock.limits ->> 'fails')::boolean,
        (clock.limits ->> 'files')::boolean,
        least(
            case when due.ends_at > moment then due.ends_at end,
            case when due.stale_at > moment then due.stale_at end,
            moment + make_interval(secs => (clock.limits ->> 'look_after')::double precision)
        )
    from tasker.task_clocks(moment, task_uuids) as clock
    cross join lateral (
        select
            (clock.limits ->> 'fails')::boolean or (clock.limits ->> 'files')::boolean as acts
    ) as policy
    cross join lateral (
        select
            case when policy.acts then clock.ends_at end as ends_at,
            case when policy.acts or clock.state = 'blocked_by_failures'
                then clock.idle_since + clock.state_limit
            end as stale_at
    ) as due
    cross join lateral (
        select
            case
                when clock.has_ended then null
                when due.stale_at <= moment and clock.state = 'blocked_by_failures' then 'give_up'
                when due.ends_at <= moment then 'task_timeout'
                when due.stale_at <= moment then 'staleness_timeout'
            end as verdict
    ) as seen;
end;
$$;

-- Say of each task since when it is to be held against its limits.
--
-- began_at     creation, or the last time that an operator let it go on; ends_at is that
--              plus the longest duration
-- entered_at   when it came into its state
-- idle_since   from when the time in its state counts; null: it does not count. A task in
--              process counts from the last thing that happened to a step of it, and not at
--              all while one is on loan; one that waits for a retry not once that is due
create function tasker.task_clocks(moment timestamptz, task_uuids uuid[])
returns table (
    task_uuid uuid, template_uuid uuid, state text, has_ended boolean, limits jsonb,
    began_at timestamptz, ends_at timestamptz, entered_at timestamptz, idle_since timestamptz,
    state_limit interval
)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select
        task.task_uuid,
        task.template_uuid,
        task.state,
        task.completed_at is not null,
        template.limits,
        began.at,
        began.at + make_interval(secs => (template.limits ->> 'duration')::double precision),
        entered.at,
        case
            when task.state = 'steps_in_process' then moved.at
            when task.state <> 'waiting_for_retry' or overdue.is_due is null then entered.at
        end,
        make_interval(secs => (template.limits ->> task.state)::double precision)
    from unnest(task_uuids) as given (task_uuid)
    cross join lateral (
        select * from tasker.tasks as t where t.task_uuid = given.task_uuid limit 1
    ) as task
    cross join lateral (
        select t.limits from tasker.templates as t
        where t.template_uuid = task.template_uuid limit 1
    ) as template
    cross join lateral (
        select coalesce(
            (select w.since from tasker.watched as w where w.task_uuid = task.task_uuid),
            task.created_at
        ) as at
    ) as began
    cross join lateral (
        select coalesce(
            (
                select c.changed_at from tasker.changes as c
                where c.task_uuid = task.task_uuid and c.step_no is null
                order by c.change_no desc limit 1
            ),
            task.created_at
        ) as at
    ) as entered
    left join lateral (
        select greatest(
            entered.at,
            (select max(c.changed_at) from tasker.changes as c where c.task_uuid = task.task_uuid),
            (select max(r.enqueued_at) from tasker.ready as r where r.task_uuid = task.task_uuid),
            (select max(a.finished_at) from tasker.attempts as a where a.task_uuid = task.task_uuid)
        ) as at
        where task.state = 'steps_in_process' and (
            select true from tasker.leases as l where l.task_uuid = task.task_uuid limit 1
        ) is null
    ) as moved on true
    left join lateral (
        select true as is_due from tasker.delayed as d
        where task.state = 'waiting_for_retry'
            and d.task_uuid = task.task_uuid and d.due_at <= moment
        limit 1
    ) as overdue on true;
end;
$$;

-- Do what a limit asks for: write a dead letter, end the task in error, or both. What ran
-- has failed; what was ready or rested is parked, so that an operator can let it go on.
--
-- out    is_filed: not if the task had a pending dead letter already
-- locks  nothing of its own: the caller holds the task
create function tasker.act_on_limit(
    moment timestamptz, its_task uuid, verdict text, facts jsonb, fails boolean, files boolean,
    out is_ended boolean, out is_filed boolean
)
language plpgsql
as $$
declare
    missing text[] := case
        when facts ->> 'state' = 'steps_in_process' then tasker.missing_handlers(moment, its_task)
    end;
    why text := format(
        'over its %s: %s seconds, the limit is %s',
        case verdict when 'task_timeout' then 'duration' else 'time in ' || (facts ->> 'state') end,
        floor((facts ->> 'seconds')::numeric), facts ->> 'limit_seconds'
    );
begin
    is_ended := fails;
    if files then
        is_filed := tasker.enter_dlq(
            its_task,
            case
                when verdict = 'give_up' then 'max_retries_exceeded'
                when missing <> '{}' then 'worker_unavailable'
                else 'staleness_timeout'
            end,
            facts || jsonb_build_object('detection_method', 'sweep', 'action', verdict)
            || case when missing <> '{}'
                then jsonb_build_object('missing_handlers', missing) else '{}'
            end
        ) is not null;
    end if;
    if fails then
        moment := tasker.stop_task(
            its_task, 'error',
            json_build_object(
                'message', 'the task was ended: ' || why,
                'error_type', 'task_timeout', 'retryable', false
            )
        );
        perform tasker.change_task(moment, its_task, 'error', verdict, null, why);
        perform tasker.set_ranges_aside(array[its_task]);
    end if;
end;
$$;

-- The callables that this task has ready steps for, and no live worker.
create function tasker.missing_handlers(moment timestamptz, its_task uuid) returns text[]
language plpgsql
as $$
begin
    return array(
        select distinct lane.callable
        from (select distinct r.lane from tasker.ready as r where r.task_uuid = its_task) as wanted
        join tasker.lanes as lane using (lane)
        where not exists (
            select from tasker.workers as worker
            where worker.seen_at > moment - interval '60 seconds'
                and lane.lane = any (worker.lanes)
        )
        order by lane.callable
    );
end;
$$;

-- Begin to watch these tasks, if their template limits them, or count their time anew.
--
-- locks  nothing of its own: the caller holds the tasks, or creates them
create function tasker.watch_tasks(moment timestamptz, task_uuids uuid[]) returns void
language plpgsql
as $$
begin
    insert into tasker.watched as w (task_uuid, since, look_at)
    select
        task.task_uuid, moment,
        moment + make_interval(secs => (template.limits ->> 'look_after')::double precision)
    from tasker.tasks as task
    join tasker.templates as template using (template_uuid)
    where task.task_uuid = any (task_uuids) and template.limits ? 'look_after'
        and task.completed_at is null
    on conflict (task_uuid) do update -- the time in its state may go on: not later than planned
    set since = excluded.since, look_at = least(w.look_at, excluded.look_at);
end;
$$;

-- Report how close living tasks are to being stale: the worst first, then the longest in
-- their state.
--
-- in     a task whose template sets no limit for its state is held against default_limit;
--        of_namespaces: only their tasks, null for all
-- out    health: stale at its limit, warning from 80 % of it, else healthy
-- index  walks the thousand oldest tasks of each of ready, delayed, leases and watched, and
--        looks at the thousand oldest of those: what has ended costs nothing
create function tasker.list_staleness(
    max_tasks int, default_limit interval, of_namespaces text[] default null
)
returns table (
    task_uuid uuid, namespace text, name text, state text, priority smallint,
    created_at timestamptz, entered_at timestamptz, idle_since timestamptz, ends_at timestamptz,
    state_limit interval, health text, missing_handlers text[], seen_at timestamptz
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_hashagg = off
as $$
#variable_conflict use_column
declare
    moment constant timestamptz := tasker.now();
    oldest uuid[] := array(
        select living.task_uuid from (
            (select distinct r.task_uuid from tasker.ready as r order by r.task_uuid limit 1000)
            union
            (select distinct d.task_uuid from tasker.delayed as d order by d.task_uuid limit 1000)
            union
            (select distinct l.task_uuid from tasker.leases as l order by l.task_uuid limit 1000)
            union
            (select w.task_uuid from tasker.watched as w order by w.task_uuid limit 1000)
        ) as living
        order by living.task_uuid limit 1000
    );
begin
    return query
    select
        clock.task_uuid, task.namespace, template.name, clock.state, task.priority,
        task.created_at, clock.entered_at, clock.idle_since, clock.ends_at, held.against,
        grade.health,
        case when clock.state = 'steps_in_process'
            then tasker.missing_handlers(moment, clock.task_uuid) else '{}'
        end,
        moment
    from tasker.task_clocks(moment, oldest) as clock
    cross join lateral (
        select * from tasker.tasks as t where t.task_uuid = clock.task_uuid limit 1
    ) as task
    cross join lateral (
        select t.name from tasker.templates as t
        where t.template_uuid = clock.template_uuid limit 1
    ) as template
    cross join lateral (
        select coalesce(
            clock.state_limit, case when clock.state <> 'blocked_by_failures' then default_limit end
        ) as against
    ) as held
    cross join lateral (
        select greatest(
            extract(epoch from moment - clock.idle_since)
            / nullif(extract(epoch from held.against), 0),
            extract(epoch from moment - clock.began_at)
            / nullif(extract(epoch from clock.ends_at - clock.began_at), 0),
            0
        ) as share
    ) as used
    cross join lateral (
        select
            case
                when used.share >= 1 then 'stale' when used.share >= 0.8 then 'warning'
                else 'healthy'
            end as health
    ) as grade
    where not clock.has_ended and held.against is not null
        and (of_namespaces is null or task.namespace = any (of_namespaces))
    order by
        array_position(array['stale', 'warning', 'healthy'], grade.health),
        clock.entered_at, clock.task_uuid
    limit max_tasks;
end;
$$;
