-- needs: clock.sql inspect.sql
-- Put a task aside for a person: an investigation, with the task as it was.
--
-- An entry is bookkeeping: to make, resolve or reopen one never changes the task.

-- Make an entry, unless the task has a pending one.
--
-- in     why is a dlq_reason
-- out    the entry's id; null when none was made
-- locks  nothing of its own: the caller holds the task
create function tasker.enter_dlq(its_task uuid, why text, its_metadata jsonb) returns uuid
language plpgsql
as $$
declare
    moment constant timestamptz := tasker.now();
    entry_uuid uuid;
begin
    if exists (
        select from tasker.dlq_entries as entry
        where entry.task_uuid = its_task and entry.resolution_status = 'pending'
    ) then
        return null;
    end if;

    insert into tasker.dlq_entries (
        dlq_entry_uuid, task_uuid, original_state, dlq_reason, entered_at, updated_at,
        snapshot, metadata
    )
    select
        tasker.new_uuid(moment), its_task, task.state, why, moment, moment,
        tasker.snapshot_task(its_task), its_metadata
    from tasker.tasks as task where task.task_uuid = its_task
    returning dlq_entry_uuid into entry_uuid;
    return entry_uuid;
end;
$$;

-- Make an entry on an operator's word.
--
-- out    the new entry; or refused_by: 'task' when there is none, 'entry' when it has a
--        pending one, which is given then
-- locks  the task
create function tasker.add_dlq_entry(
    its_task uuid, by_actor text, why text, its_metadata jsonb,
    out refused_by text, out entry_uuid uuid
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
    perform from tasker.lock_tasks(array[its_task]);
    if not found then
        refused_by := 'task';
        return;
    end if;
    entry_uuid := tasker.enter_dlq(
        its_task, 'manual_dlq',
        coalesce(its_metadata, '{}') || jsonb_build_object('entered_by', by_actor, 'reason', why)
    );
    if entry_uuid is null then
        refused_by := 'entry';
        select entry.dlq_entry_uuid into entry_uuid from tasker.dlq_entries as entry
        where entry.task_uuid = its_task and entry.resolution_status = 'pending';
    end if;
end;
$$;

-- Write into an entry, and resolve it, once, or reopen it.
--
-- in     what is null stays as it is; metadata is added to what is there
-- out    refused_by: 'entry' when its status forbids it, 'task' when another entry of the
--        task is pending, 'metadata' when it comes to more than 64 kB (failed_ranges aside,
--        which is bounded by whoever writes it); status: the one that forbids it (null: no
--        such entry), or the new
-- locks  the task, then the entry
create function tasker.update_dlq_entry(
    its_entry uuid, new_status text, notes text, by_actor text, its_metadata jsonb,
    reopens boolean, out refused_by text, out status text
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    moment timestamptz;
    its_task uuid;
    kept jsonb;
begin
    select entry.task_uuid into its_task from tasker.dlq_entries as entry
    where entry.dlq_entry_uuid = its_entry;
    perform from tasker.lock_tasks(array[its_task]); -- under which entries are made
    select entry.resolution_status, coalesce(entry.metadata, '{}') - 'failed_ranges'
    into status, kept
    from tasker.dlq_entries as entry
    where entry.dlq_entry_uuid = its_entry
    for update;
    moment := tasker.now();

    if reopens then
        new_status := 'pending';
    end if;
    if status is null or (
        new_status is not null and (
            new_status = status or (status <> 'pending' and not reopens)
        )
    ) then
        refused_by := 'entry';
        return;
    end if;
    if reopens and exists (
        select from tasker.dlq_entries as other
        where other.task_uuid = its_task and other.resolution_status = 'pending'
    ) then
        refused_by := 'task';
        return;
    end if;
    if octet_length((kept || its_metadata)::text) > 65536 then
        refused_by := 'metadata';
        return;
    end if;

    update tasker.dlq_entries as entry
    set
        resolution_status = coalesce(new_status, entry.resolution_status),
        resolved_at = case
            when new_status is null then entry.resolved_at
            when new_status <> 'pending' then moment
        end,
        resolved_by = case when not reopens then coalesce(by_actor, entry.resolved_by) end,
        resolution_notes = coalesce(notes, entry.resolution_notes),
        metadata = case
            when its_metadata is null then entry.metadata
            else coalesce(entry.metadata, '{}') || its_metadata
        end,
        updated_at = moment
    where entry.dlq_entry_uuid = its_entry
    returning entry.resolution_status into status;
end;
$$;

-- Say what a task looks like: {"taken_at", "task", "step_counts": {state: n}, "steps",
-- "transitions"}. Of more than a thousand steps those that failed or are left come first;
-- of the transitions, the last twenty. "parents" are the step_no of its dependencies.
create function tasker.snapshot_task(its_task uuid) returns json
language plpgsql
set timezone = 'UTC'
as $$
begin
    return json_build_object(
        'taken_at', tasker.now(),
        'task', (
            select json_build_object(
                'task_uuid', task.task_uuid, 'namespace', task.namespace,
                'name', template.name, 'version', template.version, 'state', task.state,
                'priority', task.priority, 'correlation_id', task.correlation_id,
                'initiator', task.initiator, 'reason', task.reason, 'tags', task.tags,
                'created_at', task.created_at, 'completed_at', task.completed_at
            )
            from tasker.tasks as task
            join tasker.templates as template using (template_uuid)
            where task.task_uuid = its_task
        ),
        'step_counts', tasker.step_counts(its_task),
        'steps', (
            select json_agg(json_build_object(
                'step_uuid', step.step_uuid, 'step_no', step.step_no, 'name', step.name,
                'state', step.state, 'attempts', step.attempt - step.forgiven,
                'max_attempts', step.max_attempts, 'parents', step.parents,
                'enqueued_at', step.enqueued_at, 'claimed_at', step.claimed_at,
                'worker_uuid', step.worker_uuid, 'next_retry_at', step.due_at,
                'last_error', case when past.error is not null then json_build_object(
                    'message', past.error -> 'message', 'error_type', past.error -> 'error_type',
                    'error_code', past.error -> 'error_code',
                    'retryable', past.error -> 'retryable'
                ) end
            ) order by step.step_no)
            from (
                select * from tasker.states_of(its_task) as s
                order by
                    s.state in ('complete', 'resolved_manually', 'cancelled'),
                    s.state <> 'error', s.step_no
                limit 1000
            ) as step
            left join tasker.last_attempts(its_task) as past using (step_no)
        ),
        'transitions', (
            select json_agg(to_json(recent) order by recent.moved_at, recent.place)
            from (
                select * from tasker.transitions as move
                where move.task_uuid = its_task
                order by move.moved_at desc, move.place desc limit 20
            ) as recent
        )
    );
end;
$$;
