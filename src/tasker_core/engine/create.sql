-- needs: clock.sql rank.sql
-- Begin tasks: their rows, their steps, and the steps that wait for nothing.
--
-- in     one entry a task in each array; the ids are UUIDv7 with 20 zero bits at the end
-- out    the places in the arrays, from 1, of the tasks whose identity is taken; no row: all
--        were created. All or none: what was written is undone, as by a savepoint, and the
--        caller's transaction goes on
-- locks  identities, in the order of their hashes, so that two callers cannot deadlock
-- tells  channel tasker_ready, once a namespace

create function tasker.create_tasks(
    task_uuids uuid[], template_uuids uuid[], contexts json[], priorities int[],
    identity_hashes bytea[], correlation_ids uuid[], parent_correlation_ids uuid[],
    initiators text[], source_systems text[], reasons text[], tags jsonb[]
)
returns setof int
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    moment timestamptz := tasker.now();
    created_count int;
    violated text;
begin
    insert into tasker.tasks (
        task_uuid, template_uuid, correlation_id, parent_correlation_id, created_at, priority,
        rank, halts_on_failure, namespace, identity_hash, initiator, source_system, reason, tags,
        context, state
    )
    select
        new.task_uuid, new.template_uuid, new.correlation_id, new.parent_correlation_id, moment,
        new.priority, tasker.rank_of(new.priority, moment), template.halts_on_failure, template.namespace, new.identity_hash,
        new.initiator, new.source_system, new.reason, new.tags, new.context, 'steps_in_process'
    from unnest(
        task_uuids, template_uuids, contexts, priorities, identity_hashes, correlation_ids,
        parent_correlation_ids, initiators, source_systems, reasons, tags
    ) as new (
        task_uuid, template_uuid, context, priority, identity_hash, correlation_id,
        parent_correlation_id, initiator, source_system, reason, tags
    )
    join tasker.templates as template using (template_uuid)
    order by new.identity_hash;

    get diagnostics created_count = row_count;
    if created_count <> cardinality(task_uuids) then
        raise foreign_key_violation using message = 'a template is not registered';
    end if;

    insert into tasker.steps (
        task_uuid, step_no, lane, first_delay_ms, max_delay_ms, max_attempts, backoff, name,
        parents, children, parents_left
    )
    select
        new.task_uuid, step.step_no, step.lane, step.first_delay_ms, step.max_delay_ms,
        step.max_attempts, step.backoff, step.name, step.parents, step.children,
        cardinality(step.parents)
    from unnest(task_uuids, template_uuids) as new (task_uuid, template_uuid)
    join tasker.template_steps as step using (template_uuid)
    where step.is_initial;

    insert into tasker.ready (task_uuid, step_no, lane, rank, attempt, enqueued_at)
    select
        new.task_uuid, step.step_no, step.lane, tasker.rank_of(new.priority, moment), 0, moment
    from unnest(task_uuids, template_uuids, priorities) as new (task_uuid, template_uuid, priority)
    join tasker.template_steps as step using (template_uuid)
    where step.is_initial and step.parents = '{}';

    perform pg_notify('tasker_ready', template.namespace)
    from tasker.templates as template
    where template.template_uuid = any (template_uuids);
exception when unique_violation then
    get stacked diagnostics violated = constraint_name;
    if violated <> 'tasks_identity' then
        raise;
    end if;
    return query
    select new.n::int
    from unnest(template_uuids, identity_hashes) with ordinality as new (
        template_uuid, identity_hash, n
    )
    join tasker.templates as template using (template_uuid)
    join tasker.tasks as task on task.namespace = template.namespace
        and task.identity_hash = new.identity_hash
    order by new.n;
    if not found then -- a snapshot of the caller's that is older than the other task
        return next 1;
    end if;
end;
$$;
