"""A graph in tables of the application, for systems that have jobs and not workflows.

`graph.submit` makes workflows and defers their first steps; `graph.finish` settles a step,
counts down its children and defers those that are released: each in one transaction, and in one
statement for whoever calls it. How a job is deferred, the peer says: `graph.defer`, which has
to be there before. Imported in the environments of the peers.
"""

from __future__ import annotations

from workloads import WORKLOADS

_TABLES = """
create table graph.nodes (workload text, step text, parents int, primary key (workload, step));
create table graph.edges (
    workload text, parent text, child text, primary key (workload, parent, child)
);
create table graph.steps (
    workflow int, step text, workload text not null, parents_left int not null,
    state text not null default 'waiting', result jsonb, finished_at timestamptz,
    primary key (workflow, step)
) with (fillfactor = 70);
create table graph.workflows (workflow int primary key, steps_left int not null);

create function graph.submit(a_workload text, numbers int[]) returns void language plpgsql as $$
begin
    insert into graph.workflows (workflow, steps_left)
    select number, (select count(*) from graph.nodes where workload = a_workload)
    from unnest(numbers) as number;
    insert into graph.steps (workflow, step, workload, parents_left)
    select number, step, a_workload, parents
    from unnest(numbers) as number, graph.nodes where workload = a_workload;
    perform graph.defer(array_agg(number), array_agg(step))
    from unnest(numbers) as number, graph.nodes where workload = a_workload and parents = 0;
end $$;

create function graph.finish(number int, name text, a_result jsonb) returns void
language plpgsql as $$
declare
    released text[];
begin
    perform from graph.workflows where workflow = number for no key update; -- joins one by one
    update graph.steps set state = 'complete', result = a_result, finished_at = clock_timestamp()
    where workflow = number and step = name and state = 'waiting';
    if not found then
        return; -- the job was delivered again
    end if;
    update graph.workflows set steps_left = steps_left - 1 where workflow = number;
    with counted as (
        update graph.steps set parents_left = parents_left - 1
        from graph.edges
        where edges.workload = (
            select workload from graph.steps where workflow = number and step = name
        ) and edges.parent = name and steps.workflow = number and steps.step = edges.child
        returning steps.step, steps.parents_left
    )
    select array_agg(counted.step) into released from counted where counted.parents_left = 0;
    if released is not null then
        perform graph.defer(array_fill(number, array[cardinality(released)]), released);
    end if;
end $$;
"""


def statements(defer: str) -> list[str]:
    """Give what makes the tables and fills in the workloads; `defer` makes `graph.defer`."""
    nodes = [
        f"('{workload}', '{step}', {len(parents)})"
        for workload, graph in WORKLOADS.items()
        for step, parents in graph.items()
    ]
    edges = [
        f"('{workload}', '{parent}', '{step}')"
        for workload, graph in WORKLOADS.items()
        for step, parents in graph.items()
        for parent in parents
    ]
    return [
        "create schema graph",
        defer,
        _TABLES,
        f"insert into graph.nodes values {', '.join(nodes)}",
        f"insert into graph.edges values {', '.join(edges)}",
    ]
