-- needs: clock.sql
-- Make a UUIDv7 of a moment, to the microsecond. Source: RFC 9562, section 5.7 and method 3.
create function tasker.new_uuid(moment timestamptz default tasker.now()) returns uuid
language sql
as $$
    select (
        lpad(to_hex(us.since_epoch / 1000), 12, '0')
        || '7' || lpad(to_hex(us.since_epoch % 1000 * 4096 / 1000), 3, '0')
        || right(replace(gen_random_uuid()::text, '-', ''), 16)
    )::uuid
    from (select (extract(epoch from moment) * 1000000)::bigint as since_epoch) as us
$$;
