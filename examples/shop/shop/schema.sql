-- The shop's own tables, beside Tasker's in the same database. Can be run again.

create schema if not exists shop;

create table if not exists shop.products (
    sku text primary key,
    name text not null,
    price_cents int not null check (price_cents > 0),
    stock int not null check (stock >= 0)
);

-- What customers asked for: written by the application, in one transaction with the task.

create table if not exists shop.placements (
    task_uuid uuid primary key,
    customer_email text not null,
    order_reference text not null,
    placed_at timestamptz not null default now(),
    unique (customer_email, order_reference)
);

-- Each of these has room for one row a task, so that a step cannot do its work twice.

create table if not exists shop.payments (
    task_uuid uuid primary key,
    charge_id text not null unique,
    amount_cents int not null
);

create table if not exists shop.reservations (
    task_uuid uuid,
    sku text references shop.products,
    quantity int not null check (quantity > 0),
    primary key (task_uuid, sku)
);

create sequence if not exists shop.order_numbers start 10001;

create table if not exists shop.orders (
    task_uuid uuid primary key,
    order_number text not null unique default 'ORD-' || nextval('shop.order_numbers'),
    order_reference text not null,
    customer_email text not null,
    charge_id text not null,
    total_cents int not null,
    placed_at timestamptz not null default now()
);

create table if not exists shop.mails (
    task_uuid uuid primary key,
    sent_to text not null,
    subject text not null,
    sent_at timestamptz not null default now()
);

-- The memory of the payment gateway, which would be somebody else's.

create table if not exists shop.gateway_calls (
    idempotency_key text primary key,
    charge_id text not null,
    call_count int not null
);

insert into shop.products (sku, name, price_cents, stock) values
    ('MUG-01', 'Mug', 1250, 1000),
    ('TEA-01', 'Green tea, 100 g', 890, 1000),
    ('POT-01', 'Teapot', 4900, 3)
on conflict do nothing;
