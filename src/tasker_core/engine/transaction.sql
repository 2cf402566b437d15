-- needs: finish.sql
-- A handler's own transaction: what it writes to the application's tables, and its result.
-- Both functions are called inside it, and it is for the caller to commit.

-- Begin: from here to the transaction's end the step is this attempt's alone.
--
-- out    the transaction's id; null when the step is not on loan to this worker
-- raises TK002 above read committed: what ended after its snapshot would be on loan for ever
--        to the look that tells whether the task is done
-- locks  one advisory lock a step. Should an earlier attempt still hold it, its worker hangs
--        or was cut off, and its transaction may hold rows that this one needs: its session
--        is ended
create function tasker.begin_transaction(by_worker uuid, of_task uuid, of_step int, of_attempt int)
returns text
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set lock_timeout = '30s'
as $$
declare
    key constant bigint := hashtextextended(of_task::text || '/' || of_step, 0);
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise sqlstate 'TK002' using message = 'a step''s transaction must be read committed';
    end if;
    perform from tasker.leases as own
    where own.task_uuid = of_task and own.step_no = of_step
        and own.attempt = of_attempt and own.worker_uuid = by_worker;
    if not found then
        return null;
    end if;

    if not pg_try_advisory_xact_lock(key) then
        begin
            perform pg_terminate_backend(held.pid)
            from pg_locks as held
            where held.locktype = 'advisory' and held.objsubid = 1 and held.granted
                and held.database = (select oid from pg_database where datname = current_database())
                and (held.classid::bigint << 32) | held.objid::bigint = key;
        exception when insufficient_privilege then
            null; -- another user's session: wait for its end
        end;
        perform pg_advisory_xact_lock(key);
    end if;

    return pg_current_xact_id();
end;
$$;

-- Record the attempt's result as finish_steps does, if this is still the transaction that the
-- attempt began, and the step still on loan to it.
--
-- out    outcome is 'recorded', or nothing is recorded and the caller rolls back: 'refused', with
--        the reason; 'ended', when the handler has ended the transaction itself; 'grown', when
--        the expansion does not fit the task any more: plan again, the task stays locked
-- locks  the task; then leases, ready. Until the commit: a session that falls silent for ten
--        seconds before it is ended, so that it does not keep the lock
-- tells  as finish_steps
create function tasker.finish_in_transaction(
    by_worker uuid, of_task uuid, of_step int, of_attempt int, transaction_id text,
    result json, metadata json, execution_ms real, expansion json, checkpoint json, events json,
    out outcome text, out reason text
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
    if pg_current_xact_id()::text <> transaction_id then
        outcome := 'ended';
        return;
    end if;

    perform
        set_config('lock_timeout', '30s', true),
        set_config('idle_in_transaction_session_timeout', '10s', true);
    perform tasker.lock_tasks(array[of_task]);
    -- not left to finish_steps: to it a result that was recorded before is as good as this one
    perform from tasker.leases as own
    where own.task_uuid = of_task and own.step_no = of_step
        and own.attempt = of_attempt and own.worker_uuid = by_worker;
    if not found then
        outcome := 'refused';
        reason := coalesce(
            (select w.refusal from tasker.refused_results(
                by_worker, array[of_task], array[of_step], array[of_attempt], null
            ) as w),
            'another result of this attempt is recorded'
        );
        return;
    end if;

    begin
        perform tasker.finish_steps(
            by_worker, array[of_task], array[of_step], array[of_attempt], array[result],
            array[null::json], array[true], array[null::interval], array[metadata],
            array[execution_ms], case when expansion is not null then array[expansion] end,
            case when checkpoint is not null then array[checkpoint] end,
            case when events is not null then array[events] end,
            '{}', '{}', 0, interval '0'
        );
        outcome := 'recorded';
    exception when sqlstate 'TK001' then
        outcome := 'grown';
    end;
end;
$$;

-- How a transaction ended of which the caller does not know: 'committed', 'aborted',
-- 'in progress', or null when it is too old to be known, or not of this server.
create function tasker.transaction_outcome(transaction_id text) returns text
language plpgsql
as $$
begin
    return pg_xact_status(transaction_id::xid8);
exception when invalid_parameter_value then -- "in the future": a server that lost its last commits
    return null;
end;
$$;
