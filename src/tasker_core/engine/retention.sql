-- needs: inspect.sql
-- Let finished tasks leave, with their history: whole tasks, a bounded batch a call.
--
-- in     completed_before: what ended earlier may leave; after_uuid: where the call before got
--        to, null to begin; a task is the last of its call when the steps reach max_steps
-- out    how many left; reached: where to go on, null when the pass is over
-- locks  the tasks, in the order of their ids, skipping those that others hold
-- index  the primary keys: an id tells when its task was created, so the walk ends where
--        tasks are too young to have ended before the limit

create function tasker.prune_tasks(
    completed_before timestamptz, after_uuid uuid, max_tasks int, keeps_identities boolean,
    max_steps int default 10000,
    out pruned_count int, out reached uuid
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    page uuid[];
    held uuid[];
    gone uuid[] := '{}';
    candidate uuid;
    step_count int := 0;
begin
    page := tasker.page_of_old_tasks(completed_before, after_uuid, max_tasks);
    reached := page[max_tasks];
    held := array(
        select task.task_uuid from tasker.tasks as task
        where task.task_uuid = any (page) and task.completed_at < completed_before
        order by task.task_uuid
        for update skip locked
    );

    -- a statement of its own: it sees what others had committed before the locks were taken
    for candidate in
        select ended.task_uuid from tasker.ended_tasks as ended
        where ended.task_uuid = any (held)
        order by ended.task_uuid
    loop
        gone := gone || candidate;
        step_count := step_count + (
            select count(*) from tasker.steps as step where step.task_uuid = candidate
        );
        if step_count >= max_steps then
            reached := candidate;
            exit;
        end if;
    end loop;
    pruned_count := cardinality(gone);

    if keeps_identities then
        insert into tasker.kept_identities (namespace, identity_hash)
        select task.namespace, task.identity_hash from tasker.tasks as task
        where task.task_uuid = any (gone) and task.identity_hash is not null
        order by task.namespace, task.identity_hash
        on conflict do nothing;
    end if;

    -- every table with rows of a task; ready, delayed, leases, outbox and failed_events have
    -- none of these
    delete from tasker.watched where task_uuid = any (gone);
    delete from tasker.dlq_entries where task_uuid = any (gone);
    delete from tasker.changes where task_uuid = any (gone);
    delete from tasker.attempts where task_uuid = any (gone);
    delete from tasker.steps where task_uuid = any (gone);
    delete from tasker.tasks where task_uuid = any (gone);
end;
$$;

-- Count what prune_tasks would delete, page by page; changes nothing.
create function tasker.count_prunable(
    completed_before timestamptz, after_uuid uuid, max_tasks int,
    out prunable_count int, out reached uuid
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    page uuid[] := tasker.page_of_old_tasks(completed_before, after_uuid, max_tasks);
begin
    reached := page[max_tasks];
    select count(*) into prunable_count
    from tasker.ended_tasks as ended
    where ended.task_uuid = any (page) and ended.completed_at < completed_before;
end;
$$;

-- Tasks that may leave once they are old enough. What keeps an ended task is a condition here.
create view tasker.ended_tasks as
select
    task.task_uuid,
    task.completed_at
from tasker.tasks as task
where
    task.completed_at is not null
    and not exists (
        select from tasker.dlq_entries as entry
        where entry.task_uuid = task.task_uuid and entry.resolution_status = 'pending'
    )
    -- an event that nobody has yet keeps its task; "limit 1", not "exists": see finish.sql
    and (
        select true from tasker.outbox as o
        where o.task_uuid = task.task_uuid
        limit 1
    ) is null
    and (
        select true from tasker.failed_events as f
        where f.task_uuid = task.task_uuid
        limit 1
    ) is null;

-- The next tasks, in the order of their ids, that were created before a moment, ended or not.
create function tasker.page_of_old_tasks(created_before timestamptz, after_uuid uuid, max_tasks int)
returns uuid[]
language plpgsql stable
as $$
begin
    return array(
        select task.task_uuid from tasker.tasks as task
        where task.task_uuid > coalesce(after_uuid, '00000000-0000-0000-0000-000000000000')
            and task.task_uuid < tasker.first_uuid(created_before)
        order by task.task_uuid
        limit max_tasks
    );
end;
$$;
