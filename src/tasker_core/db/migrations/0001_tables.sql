-- The tables of the engine.
--
-- Cold: templates, tasks, steps, attempts, changes. A step's own row is written
-- when it is created, when a parent is done, and when an attempt ends.
-- Hot: ready, delayed, leases. A step that is alive is in exactly one of them,
-- and the row there is the message: no queue stands beside the tables. So is outbox, of the
-- durable events that wait for their consumers.
-- Beside them: watched and dlq_entries, of tasks that time may end or has ended.
--
-- A step is addressed by its task and its number in it, counted from 1. Task ids
-- are UUIDv7 whose last 20 bits are zero; a step's public id is the task's id plus
-- the step's number.

create table tasker.templates (
    template_uuid uuid primary key,
    namespace text not null,
    name text not null,
    version text not null,
    version_key text collate "C" not null, -- sorts as versions do
    digest text not null, -- of the definition as it was written, the same in every environment
    environment text not null default '', -- empty: without overrides, for all that have none
    definition json not null, -- with the overrides of the environment in it
    identity_strategy text not null
    check (identity_strategy in ('strict', 'caller_provided', 'always_unique')),
    halts_on_failure boolean not null,
    limits jsonb, -- how long a task may take, see templates/limits.py; null: as long as it likes
    registered_at timestamptz not null, -- the latest one of a version is in force
    unique (namespace, name, version, digest, environment)
);

-- What one namespace asks of one callable: workers claim from the lanes they can serve.
create table tasker.lanes (
    lane int generated always as identity primary key,
    namespace text not null,
    callable text not null,
    method text not null,
    resolver text not null, -- empty: no hint
    unique (namespace, callable, method, resolver)
);

-- The steps of a template, planned once when it is registered: those that exist when a task
-- begins, and those that a decision or a batch may add.
create table tasker.template_steps (
    template_uuid uuid not null references tasker.templates on delete cascade,
    step_no int not null check (step_no between 1 and 1048575),
    lane int not null references tasker.lanes,
    is_initial boolean not null, -- exists when a task begins
    name text not null,
    max_attempts smallint not null check (max_attempts >= 1),
    backoff text not null check (backoff in ('none', 'linear', 'exponential', 'fibonacci')),
    first_delay_ms int not null check (first_delay_ms >= 0),
    max_delay_ms int not null check (max_delay_ms >= 0),
    parents int[] not null,
    children int[] not null,
    lost_events json, -- durable ones of an attempt that is lost, see outbox.py; or null
    primary key (template_uuid, step_no),
    unique (template_uuid, name)
);

create table tasker.tasks (
    task_uuid uuid primary key,
    template_uuid uuid not null,
    correlation_id uuid not null,
    parent_correlation_id uuid,
    created_at timestamptz not null,
    priority smallint not null check (priority between -100 and 100),
    rank int not null, -- of its steps among those that wait: see rank_of
    halts_on_failure boolean not null,
    namespace text not null,
    identity_hash bytea, -- null: always unique
    initiator text not null,
    source_system text not null,
    reason text not null,
    tags jsonb not null,
    context json not null,
    xid xid8 not null default pg_current_xact_id(), -- of the transaction that created it
    traceparent text, -- of the span that created it, as in W3C Trace Context; null: none
    -- what changes
    state text not null check (state in (
        'pending', 'steps_in_process', 'waiting_for_retry', 'waiting_for_dependencies',
        'blocked_by_failures', 'complete', 'error', 'cancelled', 'resolved_manually'
    )),
    failed_count int not null default 0 check (failed_count >= 0), -- steps in error
    change_count int not null default 0,
    completed_at timestamptz, -- set in every terminal state
    check (
        (completed_at is not null)
        = (state in ('complete', 'error', 'cancelled', 'resolved_manually'))
    )
) with (fillfactor = 85);

create unique index tasks_identity on tasker.tasks (namespace, identity_hash)
where identity_hash is not null;
-- for those who follow what happens: see history.sql
create index tasks_xid on tasker.tasks (xid);

-- What made a task the same task, when the task itself has left and must not come again.
create table tasker.kept_identities (
    namespace text not null,
    identity_hash bytea not null,
    primary key (namespace, identity_hash)
);

create table tasker.steps (
    task_uuid uuid not null,
    step_no int not null,
    lane int not null,
    first_delay_ms int not null,
    max_delay_ms int not null,
    max_attempts smallint not null,
    backoff text not null,
    name text not null,
    template_step text, -- null: the name is the template's
    parents int[] not null,
    children int[] not null,
    inputs json, -- of a step made at run time; the template's own stay in the template
    batch_of int, -- of a batch worker: its analyzer
    parallelism int, -- likewise: how many of its batch run at a time
    failure_strategy text check (
        failure_strategy in ('continue_on_failure', 'fail_fast', 'isolate')
    ),
    is_held boolean not null default false, -- until one of its batch has ended
    -- what changes, side by side: an update then logs only these bytes
    parents_left int not null check (parents_left >= 0),
    attempt int not null default 0, -- executions so far; never goes back, so it can fence
    forgiven int not null default 0, -- attempts before the last reset
    state text not null default 'pending' check (state in (
        'pending', 'complete', 'error', 'cancelled', 'resolved_manually'
    )), -- while pending, the hot tables tell more: see the view step_states
    completed_at timestamptz,
    checkpoint json,
    result json,
    -- an index on state itself would make every update of a step write to it
    has_failed boolean not null generated always as (state = 'error') stored,
    primary key (task_uuid, step_no)
) with (fillfactor = 70);

create index steps_failed on tasker.steps (task_uuid, batch_of, step_no) where has_failed;
create index steps_held on tasker.steps (task_uuid, batch_of, step_no) where is_held;

-- Steps that wait for a worker.
create table tasker.ready (
    task_uuid uuid not null,
    step_no int not null,
    lane int not null,
    rank int not null, -- the lowest goes first
    attempt int not null, -- executions so far
    enqueued_at timestamptz not null
);

create index ready_order on tasker.ready (lane, rank, task_uuid);
-- The planner takes the younger of two indexes that seem equal, as they do while the table
-- seems empty: the key is the younger one, for looks at one step.
alter table tasker.ready add primary key (task_uuid, step_no);

-- Steps that wait for a moment.
create table tasker.delayed (
    task_uuid uuid not null,
    step_no int not null,
    lane int not null,
    rank int not null,
    attempt int not null,
    due_at timestamptz not null,
    primary key (task_uuid, step_no)
);

create index delayed_order on tasker.delayed (due_at);

-- Steps on loan to a worker.
create table tasker.leases (
    task_uuid uuid not null,
    step_no int not null,
    lane int not null,
    rank int not null,
    attempt int not null, -- this execution, counted from 1
    worker_uuid uuid not null,
    enqueued_at timestamptz not null,
    claimed_at timestamptz not null,
    ends_at timestamptz not null,
    primary key (task_uuid, step_no)
);

-- One row an attempt, written when it ends.
create table tasker.attempts (
    task_uuid uuid not null,
    step_no int not null,
    attempt int not null,
    worker_uuid uuid not null,
    enqueued_at timestamptz not null,
    claimed_at timestamptz not null,
    finished_at timestamptz not null,
    due_at timestamptz, -- of the next attempt
    execution_ms real, -- in the handler; null: nobody measured it
    outcome text not null check (outcome in (
        'complete', 'waiting_for_retry', 'error', 'cancelled', 'resolved_manually'
    )), -- the state that the step went to
    error json, -- {"message", "error_type", "error_code", "retryable", "traceback"}
    metadata json,
    ended_by text check (ended_by in ('sweep', 'limit', 'operator')), -- null: by its own worker
    primary key (task_uuid, step_no, attempt)
);

-- One row a change of a task's state, and one an operator's action on a step.
create table tasker.changes (
    task_uuid uuid not null,
    change_no int not null, -- counted from 1
    step_no int, -- null: the task
    from_state text not null,
    to_state text not null,
    changed_at timestamptz not null,
    action text not null, -- advance, cancel, reset, resolve, complete, or a limit's
    actor text,
    reason text,
    metadata json,
    xid xid8 not null default pg_current_xact_id(), -- of the transaction that made it
    primary key (task_uuid, change_no)
);

create index changes_xid on tasker.changes (xid) where step_no is null;

-- The living tasks of templates with limits, and when to look whether one is over its own.
-- A row whose task has ended is taken away by the next look.
create table tasker.watched (
    task_uuid uuid primary key references tasker.tasks on delete cascade,
    since timestamptz not null, -- creation, or the last time that an operator let it go on
    look_at timestamptz not null -- before this moment it cannot be over any limit
);

create index watched_order on tasker.watched (look_at);

-- The dead letters: investigations of tasks that were put aside for a person. Writing one,
-- or closing it, never changes the task.
create table tasker.dlq_entries (
    dlq_entry_uuid uuid primary key,
    task_uuid uuid not null,
    original_state text not null, -- the task's, when the entry was made
    dlq_reason text not null check (dlq_reason in (
        'staleness_timeout', 'max_retries_exceeded', 'dependency_cycle_detected',
        'worker_unavailable', 'manual_dlq'
    )),
    entered_at timestamptz not null,
    updated_at timestamptz not null,
    resolution_status text not null default 'pending' check (resolution_status in (
        'pending', 'manually_resolved', 'permanently_failed', 'cancelled'
    )),
    resolved_at timestamptz,
    resolution_notes text,
    resolved_by text,
    snapshot json not null, -- the task, its steps and its last changes at that moment
    metadata jsonb,
    check ((resolved_at is null) = (resolution_status = 'pending'))
);

create unique index dlq_pending on tasker.dlq_entries (task_uuid)
where resolution_status = 'pending';
create index dlq_of_task on tasker.dlq_entries (task_uuid, dlq_entry_uuid);

-- Durable events that no consumer has yet, written in the transaction of the outcome that
-- they tell. A row leaves when its sink has confirmed it. The key is the order to keep.
create table tasker.outbox (
    task_uuid uuid not null,
    event_no int not null, -- grows within the rows of a task
    event_uuid uuid not null,
    step_no int not null,
    attempt int not null, -- 0: by an operator's hand
    tries int not null default 0, -- that a sink which was up refused
    recorded_at timestamptz not null,
    namespace text not null,
    name text not null,
    error text, -- of the last of these tries
    event json not null, -- as consumers get it
    primary key (task_uuid, event_no)
);

-- Events that were refused too often, put aside so that they hold up no others.
create table tasker.failed_events (
    event_uuid uuid primary key,
    task_uuid uuid not null,
    step_no int not null,
    attempt int not null,
    tries int not null,
    recorded_at timestamptz not null,
    failed_at timestamptz not null,
    namespace text not null,
    name text not null,
    error text not null,
    event json not null
);

create index failed_events_tasks on tasker.failed_events (task_uuid);

-- Who may call the API with which key. The key itself is kept nowhere.
create table tasker.api_keys (
    key_id text primary key, -- the part of a key that may be shown
    digest bytea not null unique, -- SHA-256 of the whole key, which is too random to be guessed
    name text not null, -- who calls: what the history tells
    permissions text[] not null,
    namespaces text[] check (cardinality(namespaces) > 0), -- null: all
    created_at timestamptz not null,
    created_by text not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text
);

create table tasker.workers (
    worker_uuid uuid primary key,
    host text not null,
    pid int not null,
    version text not null,
    concurrency int not null,
    started_at timestamptz not null,
    seen_at timestamptz not null,
    lanes int[] not null -- what it can serve
);

alter table tasker.ready set (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);
alter table tasker.delayed set (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);
alter table tasker.leases set (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);
alter table tasker.outbox set (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);
