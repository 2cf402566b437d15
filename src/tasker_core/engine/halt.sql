-- What a failed step holds back, and what it does not.
--
-- locks  nothing of their own: the callers hold the tasks

-- Count steps that have just failed for good: a task without any is never looked at.
create function tasker.count_failures(failed_tasks uuid[]) returns void
language plpgsql
as $$
begin
    update tasker.tasks as task
    set failed_count = task.failed_count + failed.steps
    from (
        select one.task_uuid, count(*) as steps
        from unnest(failed_tasks) as one (task_uuid) group by one.task_uuid
    ) as failed
    where task.task_uuid = failed.task_uuid;
end;
$$;

-- Say whether a step may not begin because others have failed; asked only of a task with a
-- failed step. Most wait until an operator has dealt with the failure, unless the task goes
-- on without (on_failure: continue). In a batch, the failure strategy decides about siblings.
--
-- index  steps_failed: a batch may be large, and it is asked for each step that is ready
create function tasker.is_halted(its_task uuid, halts boolean, its_batch int, strategy text)
returns boolean
language plpgsql stable
as $$
begin
    if its_batch is null then
        return halts;
    end if;
    return strategy = 'fail_fast' and exists (
        select from tasker.steps as failed
        where failed.task_uuid = its_task and failed.has_failed and failed.batch_of = its_batch
    ) or halts and (
        exists (
            select from tasker.steps as failed
            where failed.task_uuid = its_task and failed.has_failed and failed.batch_of is null
        ) or exists (
            select from tasker.steps as failed
            where failed.task_uuid = its_task and failed.has_failed and failed.batch_of < its_batch
        ) or exists (
            select from tasker.steps as failed
            where failed.task_uuid = its_task and failed.has_failed and failed.batch_of > its_batch
        )
    );
end;
$$;

-- Take back what a task with a failed step had enqueued: the steps are pending again
-- until an operator has dealt with the failure. Running steps run on.
create function tasker.park_steps(task_uuids uuid[]) returns void
language plpgsql
as $$
begin
    delete from tasker.delayed as d
    using tasker.tasks as task
    where task.task_uuid = any (task_uuids) and task.failed_count > 0
        and d.task_uuid = task.task_uuid
        and (
            select tasker.is_halted(
                task.task_uuid, task.halts_on_failure, step.batch_of, step.failure_strategy
            )
            from tasker.steps as step
            where step.task_uuid = d.task_uuid and step.step_no = d.step_no
            limit 1
        );
    delete from tasker.ready as r
    using tasker.tasks as task
    where task.task_uuid = any (task_uuids) and task.failed_count > 0
        and r.task_uuid = task.task_uuid
        and (
            select tasker.is_halted(
                task.task_uuid, task.halts_on_failure, step.batch_of, step.failure_strategy
            )
            from tasker.steps as step
            where step.task_uuid = r.task_uuid and step.step_no = r.step_no
            limit 1
        );
end;
$$;

-- Which failed steps do not let a step begin, by the same rules: the first twenty. It is for
-- those who ask why.
--
-- index  steps_failed
create function tasker.blocking_steps(
    its_task uuid, halts boolean, its_batch int, strategy text
)
returns setof tasker.steps
language plpgsql stable
as $$
begin
    return query
    select blocking.* from (
        (
            select failed.* from tasker.steps as failed
            where failed.task_uuid = its_task and failed.has_failed and halts
                and (failed.batch_of < its_batch or failed.batch_of is null or its_batch is null)
            order by failed.step_no limit 20
        )
        union all
        (
            select failed.* from tasker.steps as failed
            where failed.task_uuid = its_task and failed.has_failed and strategy = 'fail_fast'
                and failed.batch_of = its_batch
            order by failed.step_no limit 20
        )
        union all
        (
            select failed.* from tasker.steps as failed
            where failed.task_uuid = its_task and failed.has_failed and halts
                and failed.batch_of > its_batch
            order by failed.step_no limit 20
        )
    ) as blocking
    order by blocking.step_no limit 20;
end;
$$;
