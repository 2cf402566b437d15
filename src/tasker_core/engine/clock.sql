-- The only clock that the engine reads. A test may put another in its place.

create function tasker.now() returns timestamptz
language sql volatile
as $$ select clock_timestamp() $$;
