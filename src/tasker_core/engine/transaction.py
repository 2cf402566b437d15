"""Record a result in the handler's own transaction, together with what it wrote there.

The transaction belongs to whatever driver the application uses, so these are statements,
not calls: `$1` and the like stand for values that every driver can send. The rules are in
transaction.sql.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.finish import Finished
from tasker_core.engine.lease import Loan

Value: TypeAlias = str | int | float | None

BEGIN = (
    "select tasker.begin_transaction("
    "cast($1 as uuid), cast($2 as uuid), cast($3 as int), cast($4 as int))"
)
FINISH = (
    "select outcome, reason from tasker.finish_in_transaction("
    "cast($1 as uuid), cast($2 as uuid), cast($3 as int), cast($4 as int), cast($5 as text), "
    "cast($6 as json), cast($7 as json), cast($8 as real), cast($9 as json), cast($10 as json))"
)


def begin_values(worker_uuid: UUID, loan: Loan) -> list[Value]:
    """Give the values of BEGIN, which answers with the transaction's id, or null."""
    return [str(worker_uuid), str(loan.task_uuid), loan.step_no, loan.attempt]


def finish_values(worker_uuid: UUID, transaction_id: str, success: Finished) -> list[Value]:
    """Give the values of FINISH, which answers with an outcome and the reason of a refusal."""
    return [
        *begin_values(worker_uuid, success),
        transaction_id,
        success.result,
        success.metadata,
        success.execution_ms,
        success.expansion,
        success.checkpoint,
    ]


def with_names(statement: str, write: Callable[[str], str]) -> str:
    """Write a statement's `$1` as another driver wants it; the names are `p1` and so on.

    >>> with_names("select $1, $10", lambda name: f":{name}")
    'select :p1, :p10'
    """
    return re.sub(r"\$(\d+)", lambda found: write(f"p{found[1]}"), statement)


async def transaction_outcome(conn: Connection, transaction_id: str) -> str | None:
    """Say how a transaction ended: `committed`, `aborted`, `in progress`; None: not known."""
    outcome: str | None = await conn.fetchval(
        "select tasker.transaction_outcome($1)", transaction_id
    )
    return outcome
