-- needs: clock.sql rank.sql
-- Begin tasks: their rows, their steps, and the steps that wait for nothing.
--
-- in     one entry a task in each array; the ids are UUIDv7 with 20 zero bits at the end
-- out    when they were created; or, null then, the places in the arrays, from 1, of the tasks
--        whose identity is taken, or is kept of one that has left. All or none: what was
--        written is undone, as by a savepoint, and the caller's transaction goes on
-- locks  identities, in the order of their hashes, so that two callers cannot deadlock
-- tells  channel tasker_ready, once a namespace

create function tasker.create_tasks(
    task_uuids uuid[], template_uuids uuid[], contexts json[], priorities int[],
    identity_hashes bytea[], correlation_ids uuid[], parent_correlation_ids uuid[],
    initiators text[], source_systems text[], reasons text[], tags jsonb[],
    traceparents text[] default null,
    out created_at timestamptz, out taken int[]
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    moment timestamptz := tasker.now();
    created_count int;
    violated text;
begin
    created_at := moment;
    insert into tasker.tasks (
        task_uuid, template_uuid, correlation_id, parent_correlation_id, created_at, priority,
        rank, halts_on_failure, namespace, identity_hash, initiator, source_system, reason, tags,
        context, traceparent, state
    )
    select
        new.task_uuid, new.template_uuid, new.correlation_id, new.parent_correlation_id, moment,
        new.priority, tasker.rank_of(new.priority, moment), template.halts_on_failure,
        template.namespace, new.identity_hash, new.initiator, new.source_system, new.reason,
        new.tags, new.context, new.traceparent, 'steps_in_process'
    from unnest(
        task_uuids, template_uuids, contexts, priorities, identity_hashes, correlation_ids,
        parent_correlation_ids, initiators, source_systems, reasons, tags, traceparents
    ) as new (
        task_uuid, template_uuid, context, priority, identity_hash, correlation_id,
        parent_correlation_id, initiator, source_system, reason, tags, traceparent
    )
    join tasker.templates as template using (template_uuid)
    order by new.identity_hash;

    get diagnostics created_count = row_count;
    if created_count <> cardinality(task_uuids) then
        raise foreign_key_violation using message = 'a template is not registered';
    end if;
    perform tasker.refuse_kept_identities(task_uuids);

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

    if exists (
        select from tasker.templates as template
        where template.template_uuid = any (template_uuids) and template.limits ? 'look_after'
    ) then
        perform tasker.watch_tasks(moment, task_uuids);
    end if;

    perform pg_notify('tasker_ready', template.namespace)
    from tasker.templates as template
    where template.template_uuid = any (template_uuids);
exception when unique_violation then
    get stacked diagnostics violated = constraint_name;
    if violated <> 'tasks_identity' then
        raise;
    end if;
    created_at := null;
    select array_agg(new.n::int order by new.n) into taken
    from unnest(template_uuids, identity_hashes) with ordinality as new (
        template_uuid, identity_hash, n
    )
    join tasker.templates as template using (template_uuid)
    where (
        select true from tasker.tasks as task
        where task.namespace = template.namespace and task.identity_hash = new.identity_hash
        limit 1
    ) or (
        select true from tasker.kept_identities as kept
        where kept.namespace = template.namespace and kept.identity_hash = new.identity_hash
        limit 1
    );
    -- none: a snapshot of the caller's that is older than the other task
    taken := coalesce(taken, '{1}');
end;
$$;

-- Begin one task in plain SQL: from psql, a trigger, a program in any language.
--
-- out    the task's id
-- raises no_data_found when there is no such template; invalid_parameter_value for a field
--        outside its bounds; unique_violation when a task with this identity exists
-- locks  the identity
-- tells  channel tasker_ready
--
-- Not checked: the template's input_schema and required_fields. What makes two contexts the
-- same is known to Python alone, so a template whose strategy is strict wants a key here.
-- The overrides of a template are those of the parameter environment, else of the setting
-- tasker.environment of the session or the database, else of development.

create function tasker.create_task(
    namespace text, name text, context jsonb, version text default null,
    priority int default 0, tags text[] default '{}', idempotency_key text default null,
    initiator text default session_user, source_system text default 'sql',
    reason text default 'Task requested', correlation_id uuid default null,
    parent_correlation_id uuid default null,
    environment text
    default coalesce(nullif(current_setting('tasker.environment', true), ''), 'development')
)
returns uuid
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    template tasker.templates;
    label text;
    identity_hash bytea;
    task_uuid uuid := overlay(tasker.new_uuid()::text placing '00000' from 32);
begin
    select own.* into template
    from tasker.current_templates as t
    join tasker.templates as own
        on (own.namespace, own.name, own.version, own.digest)
        = (t.namespace, t.name, t.version, t.digest)
    where t.namespace = create_task.namespace and t.name = create_task.name
        and (create_task.version is null or t.version = create_task.version)
        and own.environment in ('', create_task.environment)
    order by t.version_key desc, own.environment desc limit 1;
    if not found then
        raise no_data_found using
            message = concat('no template ', namespace, '/', name, ' ' || version),
            hint = 'The view tasker.current_templates lists those that are registered.';
    end if;
    label := concat(template.namespace, '/', template.name, ' ', template.version);

    perform
        tasker.check_text('initiator', initiator, 255),
        tasker.check_text('source_system', source_system, 255),
        tasker.check_text('reason', reason, 500),
        tasker.check_text('idempotency_key', coalesce(idempotency_key, 'none'), 255),
        (select count(tasker.check_text('a tag', t.tag, 255)) from unnest(tags) as t (tag));
    if priority is null or priority not between -100 and 100 then
        raise invalid_parameter_value using message = concat(
            'priority is ', coalesce(priority::text, 'null'), ', but must be a whole number from -100 to 100'
        );
    end if;
    if jsonb_typeof(context) is distinct from 'object' then
        raise invalid_parameter_value using message = 'the context must be a JSON object';
    end if;
    if octet_length(context::text) > 4194304
        or jsonb_path_exists(context, 'strict $.**{101 to last}')
        or jsonb_path_exists(context, 'strict $.** ? (@ > 1.7e308 || @ < -1.7e308)')
    then
        raise invalid_parameter_value using message =
            'the context is larger than 4 MiB, nested more than 100 deep, or has a number '
            'beyond 1.7e308';
    end if;

    if idempotency_key is not null then
        identity_hash := sha256(convert_to(
            format(
                e'[%s,%s,%s,"key"]\n%s', to_json(template.namespace), to_json(template.name),
                to_json(template.version), idempotency_key
            ),
            'UTF8'
        ));
    elsif template.identity_strategy <> 'always_unique' then
        raise invalid_parameter_value using message = concat(
            'template ', label, ' has identity_strategy ', template.identity_strategy,
            ': give an idempotency_key'
        );
    end if;

    perform from tasker.create_tasks(
        array[task_uuid], array[template.template_uuid], array[context::json], array[priority],
        array[identity_hash], array[coalesce(correlation_id, tasker.new_uuid())],
        array[parent_correlation_id], array[initiator], array[source_system], array[reason],
        array[coalesce(to_jsonb(tags), '[]')]
    ) as made
    where made.taken is not null;
    if found then
        raise unique_violation using
            message = concat('a task of ', label, ' with this identity already exists'),
            hint = 'Give another idempotency_key.', constraint = 'tasks_identity';
    end if;
    return task_uuid;
end;
$$;

create function tasker.check_text(field text, value text, longest int) returns void
language plpgsql
as $$
begin
    if value is null or length(value) not between 1 and longest then
        raise invalid_parameter_value using message = concat(
            field, ' is ', quote_nullable(left(value, 80)), ', but must be text of 1 to ', longest,
            ' characters'
        );
    end if;
end;
$$;

-- Refuse the identities of tasks that have left. The new tasks are there already, so a task
-- with one of these identities has left for good, or whoever deletes it would have been waited
-- for. A transaction that looks at the past does not see what was kept since, but it does see
-- the task that has left since.
create function tasker.refuse_kept_identities(new_tasks uuid[]) returns void
language plpgsql
as $$
begin
    if current_setting('transaction_isolation') = 'read committed'
        and not exists (select from tasker.kept_identities limit 1)
    then
        return;
    end if;
    if exists (
        select from tasker.tasks as new
        where new.task_uuid = any (new_tasks)
            and (
                (
                    select true from tasker.kept_identities as kept
                    where kept.namespace = new.namespace
                        and kept.identity_hash = new.identity_hash
                    limit 1
                )
                or (
                    select true from tasker.tasks as past
                    where past.namespace = new.namespace
                        and past.identity_hash = new.identity_hash
                        and past.task_uuid <> new.task_uuid
                    limit 1
                )
            )
    ) then
        raise unique_violation using
            message = 'a task with this identity has been and left', constraint = 'tasks_identity';
    end if;
end;
$$;
