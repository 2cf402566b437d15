"""The college's mail: a table, where another place would have a mail server."""

from __future__ import annotations

from uuid import UUID

from app.database import connect


async def send(sent_to: str, subject: str, *, step_uuid: UUID) -> None:
    """Send a mail; the same step sends one, however often it runs."""
    async with connect() as conn:
        await conn.execute(
            "insert into campus.mails (step_uuid, sent_to, subject) values ($1, $2, $3) "
            "on conflict (step_uuid) do nothing",
            step_uuid,
            sent_to,
            subject,
        )
