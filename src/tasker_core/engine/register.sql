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
        new_uuid, its_namespace, its_name, its_version, its_version_key, its_digest,
        its_definition, its_identity_strategy, halts, its_limits, tasker.now()
    )
    on conflict (namespace, name, version, digest) do update set registered_at = tasker.now()
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

-- The definition in force of every version of every template.
create view tasker.current_templates as
select distinct on (namespace, name, version) *
from tasker.templates
order by namespace, name, version, registered_at desc, template_uuid desc;
