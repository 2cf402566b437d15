-- Make a template known, with its steps.
--
-- in     the definition, and its steps as parallel arrays, the initial ones first; parents
--        and children are JSON arrays of step numbers, empty for the others; lost_events are
--        the durable events that a sweep publishes for an attempt that is lost, or null
-- out    the template's id, and what was done: registered, unchanged, or refused
--        because tasks have used this version with another definition
-- locks  one registration at a time
-- tells  channel tasker_lanes, so that workers look which lanes they can serve

create function tasker.register_template(
    new_uuid uuid, its_namespace text, its_name text, its_version text, its_version_key text,
    its_digest text, its_definition json, its_identity_strategy text, halts boolean,
    its_limits jsonb, forced boolean,
    initial_count int, step_names text[], callables text[], methods text[], resolvers text[],
    max_attempts int[], backoffs text[], first_delays_ms int[], max_delays_ms int[],
    parents json[], children json[], lost_events json[]
)
returns table (template_uuid uuid, outcome text)
language plpgsql
as $$
#variable_conflict use_column
declare
    present tasker.templates;
begin
    perform pg_advisory_xact_lock(hashtext('tasker.register_template'));

    select * into present from tasker.current_templates as t
    where t.namespace = its_namespace and t.name = its_name and t.version = its_version;

    if present.digest = its_digest then
        return query select present.template_uuid, 'unchanged';
        return;
    end if;
    if found and not forced and exists (
        select from tasker.tasks as task
        join tasker.templates as t using (template_uuid)
        where t.namespace = its_namespace and t.name = its_name and t.version = its_version
            and t.digest <> its_digest -- forced ones may have come since
    ) then
        return query select present.template_uuid, 'refused';
        return;
    end if;

    insert into tasker.templates as t values (
        new_uuid, its_namespace, its_name, its_version, its_version_key, its_digest, '',
        its_definition, its_identity_strategy, halts, its_limits, tasker.now()
    )
    on conflict (namespace, name, version, digest, environment)
    do update set registered_at = tasker.now()
    returning t.template_uuid into new_uuid;

    insert into tasker.lanes (namespace, callable, method, resolver)
    select distinct its_namespace, wanted.callable, wanted.method, wanted.resolver
    from unnest(callables, methods, resolvers) as wanted (callable, method, resolver)
    on conflict do nothing;

    insert into tasker.template_steps
    select
        new_uuid, step.step_no, lane.lane, step.step_no <= initial_count, step.name,
        step.max_attempts, step.backoff, step.first_delay_ms, step.max_delay_ms,
        array(select value::int from json_array_elements_text(step.parents)),
        array(select value::int from json_array_elements_text(step.children)),
        step.lost_events
    from unnest(
        step_names, callables, methods, resolvers, max_attempts, backoffs,
        first_delays_ms, max_delays_ms, parents, children, lost_events
    ) with ordinality as step (
        name, callable, method, resolver, max_attempts, backoff,
        first_delay_ms, max_delay_ms, parents, children, lost_events, step_no
    )
    join tasker.lanes as lane on lane.namespace = its_namespace
        and (lane.callable, lane.method, lane.resolver)
        = (step.callable, step.method, step.resolver)
    on conflict do nothing;

    perform pg_notify('tasker_lanes', its_namespace);
    return query select new_uuid, 'registered';
end;
$$;

-- Make known what a registered template says in one environment. Only what a step is given
-- and how it is retried may differ; a step's number and its lane are the same everywhere.
--
-- in     the template as it was registered; the definition with the overrides in it; and the
--        retry policies of its steps, in the order of their numbers
-- locks  nothing of its own: the caller registers the template in the same transaction
create function tasker.register_environment(
    new_uuid uuid, base_uuid uuid, its_environment text, its_definition json,
    max_attempts int[], backoffs text[], first_delays_ms int[], max_delays_ms int[]
)
returns void
language plpgsql
as $$
#variable_conflict use_column
begin
    insert into tasker.templates
    select
        new_uuid, base.namespace, base.name, base.version, base.version_key, base.digest,
        its_environment, its_definition, base.identity_strategy, base.halts_on_failure,
        base.limits, base.registered_at
    from tasker.templates as base
    where base.template_uuid = base_uuid
    on conflict (namespace, name, version, digest, environment) do nothing;
    if not found then
        return; -- this definition was in force before
    end if;

    insert into tasker.template_steps
    select
        new_uuid, base.step_no, base.lane, base.is_initial, base.name, policy.max_attempts,
        policy.backoff, policy.first_delay_ms, policy.max_delay_ms, base.parents, base.children,
        base.lost_events
    from unnest(max_attempts, backoffs, first_delays_ms, max_delays_ms) with ordinality as policy (
        max_attempts, backoff, first_delay_ms, max_delay_ms, step_no
    )
    join tasker.template_steps as base
        on base.template_uuid = base_uuid and base.step_no = policy.step_no;
end;
$$;

-- The definition in force of every version of every template, without overrides.
create view tasker.current_templates as
select distinct on (namespace, name, version) *
from tasker.templates
where environment = ''
order by namespace, name, version, registered_at desc, template_uuid desc;
