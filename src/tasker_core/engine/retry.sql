-- Say how long a failed step rests before its next attempt.
--
-- in   the policy; failed_attempt is the attempt that just failed, counted from 1;
--      jitter is a random number from 0 to 1
-- out  none: 0; linear: first × n; exponential: first × 2^(n-1); fibonacci: first × F(n);
--      at most max_delay_ms and one hour, then up to 15 % more or less

create function tasker.retry_delay(
    backoff text, first_delay_ms int, max_delay_ms int, failed_attempt int, jitter double precision
)
returns interval
language plpgsql immutable
as $$
declare
    cap constant double precision := least(max_delay_ms, 3600000);
    factor double precision;
begin
    factor := case backoff
        when 'none' then 0
        when 'linear' then failed_attempt
        when 'exponential' then 2.0 ^ least(failed_attempt - 1, 60)
        when 'fibonacci' then tasker.fibonacci(failed_attempt)
    end;
    return least(first_delay_ms * factor, cap) * (0.85 + 0.30 * jitter) * interval '1 millisecond';
end;
$$;

-- 1, 1, 2, 3, 5, … by Binet's formula, exact up to the 70th, which no delay outlives.
create function tasker.fibonacci(n int) returns double precision
language sql immutable
as $$
    select round(((1 + sqrt(5.0::double precision)) / 2) ^ least(n, 70) / sqrt(5.0::double precision))
$$;
