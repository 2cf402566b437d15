-- The college's own tables, beside Tasker's in the same database. Can be run again.
--
-- Whatever a step writes has the step's or the task's uuid in its key, so that a step
-- which runs a second time finds its row and does no harm.

create schema if not exists campus;

create table if not exists campus.materials (
    sku text primary key,
    course_code text not null,
    title text not null,
    price_cents int not null check (price_cents > 0),
    copies int not null check (copies >= 0)
);

create table if not exists campus.reservations (
    task_uuid uuid,
    sku text references campus.materials,
    primary key (task_uuid, sku)
);

create sequence if not exists campus.order_numbers start 1001;

create table if not exists campus.orders (
    task_uuid uuid primary key,
    order_number text not null unique default 'M-' || nextval('campus.order_numbers'),
    student_email text not null,
    total_cents int not null,
    refunded_cents int not null default 0 check (refunded_cents <= total_cents)
);

-- What payments has taken out of an order; one row a task.
create table if not exists campus.refunds (
    task_uuid uuid primary key,
    amount_cents int not null check (amount_cents > 0)
);

-- Money that moved: charges are negative, refunds positive.
create table if not exists campus.ledger (
    step_uuid uuid primary key,
    account text not null,
    amount_cents int not null,
    note text not null
);

-- The mails that went out; a real mail server would be elsewhere.
create table if not exists campus.mails (
    step_uuid uuid primary key,
    sent_to text not null,
    subject text not null
);

-- A week's attendance, as the transform steps leave it and the batch reads it.
create table if not exists campus.attendance (
    task_uuid uuid,
    source text,
    student_no int,
    minutes int not null check (minutes >= 0),
    primary key (task_uuid, source, student_no)
);

create table if not exists campus.points (
    task_uuid uuid,
    student_no int,
    minutes int not null,
    points int not null,
    written_count int not null default 1,  -- 2 and more: work that was done again
    primary key (task_uuid, student_no)
);

create table if not exists campus.accounts (
    task_uuid uuid primary key,
    student_no int generated always as identity unique,
    email text not null unique,
    full_name text not null,
    tutor_group text,
    card_number text,
    is_active boolean not null default false
);

create table if not exists campus.tutor_groups (
    name text primary key,
    member_count int not null default 0
);

-- What people have said about refunds.
create table if not exists campus.answers (
    reference text,
    role text check (role in ('lead', 'finance')),
    approved boolean not null,
    primary key (reference, role)
);

-- How often each place is still going to fail.
create table if not exists campus.outages (
    place text primary key,
    calls_left int not null
);

-- The memory of the library, which would be somebody else's.
create table if not exists campus.library_cards (
    request_key text primary key,
    card_number text not null,
    email text not null
);

create table if not exists campus.library_calls (
    request_key text not null,
    status_code int not null,
    called_at timestamptz not null default clock_timestamp()
);

insert into campus.materials (sku, course_code, title, price_cents, copies) values
    ('ALG-BOOK', 'algebra', 'Linear algebra, a reader', 3400, 500),
    ('ALG-SHEETS', 'algebra', 'Exercise sheets', 600, 500),
    ('CHEM-KIT', 'chemistry', 'Laboratory kit', 12500, 500),
    ('ATLAS', 'geography', 'Atlas', 5200, 0)
on conflict do nothing;

insert into campus.tutor_groups (name) values ('north'), ('south'), ('west')
on conflict do nothing;
