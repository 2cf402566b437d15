"""The flow, in the order in which the work happens. Each verb is a module and its SQL.

::

    register   a template becomes known, with the steps that its tasks begin with
    create     a task and its steps come into being; those that wait for nothing are ready
    claim      a worker takes ready steps on loan, each under a lease
    lease      the loan is renewed while the handler runs, or given back
    finish     the results are recorded, children released, the task moved on,
               and the worker's next steps claimed: one round trip, one commit
    outbox     durable events are recorded in the transaction of their outcome
    relay      they are taken from there to whoever consumes them
    expand     a decision or a batch adds steps, in the transaction of its result
    retry      how long a failed step rests
    sweep      what was dropped is taken back
    staleness  what is over its time is ended, or put aside for a person
    dlq        the tasks put aside: investigations, each with a snapshot
    operate    an operator cancels, resets, resolves, completes
    inspect    what may be read; search: which tasks there are; history: what happens to them
    analytics  what may be measured
    retention  finished tasks leave after their time

The SQL functions make every change of state; the Python beside them checks what goes
in, and names what comes out. Each takes a connection first, and runs inside the
caller's transaction when there is one.
"""
