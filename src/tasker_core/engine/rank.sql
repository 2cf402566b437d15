-- Say whose turn it is: of the steps that wait in one lane, the lowest rank goes first.
--
-- A point of priority is worth a minute of waiting. So a task goes before every one of
-- priority q that is created (q - p) minutes after it or later, p being its own priority:
-- whatever arrives, it waits for a known set of tasks, and never for ever.
--
-- out  seconds since 2020, less a minute for each point

create function tasker.rank_of(priority int, created_at timestamptz) returns int
language sql stable
as $$
    select (date_part('epoch', created_at) - 1577836800)::int - 60 * priority
$$;
