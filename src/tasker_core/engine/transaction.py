"""Record a result in the handler's own transaction, together with what it wrote there.

The transaction belongs to whatever driver the application uses, so these are statements
for any connection. The rules are in transaction.sql.
"""

from __future__ import annotations

from uuid import UUID

from tasker_core.db.asking import Asking, Statement
from tasker_core.db.connect import Connection
from tasker_core.engine.finish import Finished
from tasker_core.engine.lease import Loan

TOO_STRICT = "TK002"  # the isolation level

_ATTEMPT = (
    "cast($1 as uuid), cast($2 as uuid), cast(cast($3 as text) as int), "
    "cast(cast($4 as text) as int)"
)
_BEGIN = f"select tasker.begin_transaction({_ATTEMPT})"
_FINISH = (
    f"select outcome, reason from tasker.finish_in_transaction({_ATTEMPT}, cast($5 as text), "
    "cast($6 as json), cast($7 as json), cast(cast($8 as text) as real), cast($9 as json), "
    "cast($10 as json), cast($11 as json))"
)


def begin_transaction(worker_uuid: UUID, loan: Loan) -> Asking[str | None]:
    """Begin a handler's transaction; give its id, None when the step is not on loan any more."""
    ((transaction_id,),) = yield Statement(_BEGIN, _attempt(worker_uuid, loan))
    return None if transaction_id is None else str(transaction_id)


def finish_in_transaction(
    worker_uuid: UUID, transaction_id: str, success: Finished
) -> Asking[tuple[str, str | None]]:
    """Record a success in the transaction, for the caller to commit.

    Returns:
        `recorded`; or nothing is recorded and the caller has to roll back: `refused` and the
        reason, `ended` if this is another transaction, `grown` if it has to be planned again.
    """
    milliseconds = success.execution_ms
    args = (
        *_attempt(worker_uuid, success),
        transaction_id,
        success.result,
        success.metadata,
        None if milliseconds is None else str(milliseconds),
        success.expansion,
        success.checkpoint,
        success.events,
    )
    ((outcome, reason),) = yield Statement(_FINISH, args)
    return outcome, reason


async def transaction_outcome(conn: Connection, transaction_id: str) -> str | None:
    """Say how a transaction ended: `committed`, `aborted`, `in progress`; None: not known."""
    outcome: str | None = await conn.fetchval(
        "select tasker.transaction_outcome($1)", transaction_id
    )
    return outcome


def _attempt(worker_uuid: UUID, loan: Loan) -> tuple[str, str, str, str]:
    return str(worker_uuid), str(loan.task_uuid), str(loan.step_no), str(loan.attempt)
