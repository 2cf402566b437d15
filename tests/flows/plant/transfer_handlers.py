"""Handlers that move money between accounts, each in its step's own transaction.

One step for each kind of connection. They keep no key against a second run: a step that
counted twice, or half, would show in the books. Who pays whom follows from the task's id.
A step waits where a test wants it to, between its writes and its result, and most take as
long as the task says.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tasker_core import StepHandler

ACCOUNTS = 9  # few, so that transfers meet
BANK = 0

_URL = os.environ["PLANT_DATABASE_URL"]
_ASYNC_ENGINE = create_async_engine(
    _URL.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool
)
_ENGINE = sqlalchemy.create_engine(
    _URL.replace("postgresql://", "postgresql+psycopg://", 1), pool_pre_ping=True
)

_EFFECT = "insert into plant.effects values ('{task}', '{step}', {amount})"
_ENTRY = (
    "insert into plant.entries values ('{task}', '{step}', {account}, {cents}); "
    "update plant.accounts set cents = cents + {cents} where account = {account}"
)


def writes(context, *entries: tuple[int, int]) -> list[str]:
    """Give the statements of a step that adds these cents to these accounts."""
    task, step = context.task_uuid, context.step_name
    booked = [
        _ENTRY.format(task=task, step=step, account=account, cents=cents)
        for account, cents in entries
    ]
    effect = _EFFECT.format(task=task, step=step, amount=context.get_input("amount"))
    return [statement for text in [*booked, effect] for statement in text.split("; ")]


def payer(context) -> int:
    """Give the account that pays."""
    return 1 + (context.task_uuid.int >> 20) % ACCOUNTS


def payee(context) -> int:
    """Give the account that is paid."""
    return 1 + (payer(context) + 1) % ACCOUNTS


def _is_held(context) -> bool:
    gate = f"hold-{context.step_name}-{context.attempt}"
    return (Path(os.environ["PLANT_GATES"]) / gate).exists()


def _seconds(context) -> float:
    return random.uniform(0, 2) * context.get_input_or("seconds", 0)


class Withdraw(StepHandler):
    """asyncpg."""

    handler_name = "withdraw"

    async def call(self, context):
        amount = context.get_input("amount")
        async with context.transaction() as conn:
            for statement in writes(context, (payer(context), -amount)):
                await conn.execute(statement)
            await asyncio.sleep(_seconds(context))
            while _is_held(context):  # noqa: ASYNC110  another process holds it
                await asyncio.sleep(0.02)
        return {"amount": amount}


class Deposit(StepHandler):
    """psycopg."""

    handler_name = "deposit"

    def call(self, context):
        amount = context.get_dependency_field("withdraw", "amount")
        with context.transaction() as conn:
            for statement in writes(context, (payee(context), amount)):
                conn.execute(statement)
            time.sleep(_seconds(context))
            while _is_held(context):
                time.sleep(0.02)
        return {"amount": amount}


class ChargeFee(StepHandler):
    """SQLAlchemy, async. Two accounts, at times in the wrong order: some meet in a deadlock."""

    handler_name = "charge_fee"

    async def call(self, context):
        entries = [(BANK, 1), (payer(context), -1)]
        if random.random() < 0.05:
            entries.reverse()
        async with context.transaction(_ASYNC_ENGINE) as conn:
            for statement in writes(context, *entries):
                await conn.execute(sqlalchemy.text(statement))
        while _is_held(context):  # noqa: ASYNC110  another process holds it
            await asyncio.sleep(0.02)
        return {}


class Confirm(StepHandler):
    """SQLAlchemy in a thread. Fails its first attempt after it has written."""

    handler_name = "confirm"

    def call(self, context):
        with context.transaction(_ENGINE) as conn:
            for statement in writes(context, (payer(context), 0)):
                conn.execute(sqlalchemy.text(statement))
        time.sleep(_seconds(context))
        while _is_held(context):
            time.sleep(0.02)
        if not context.is_retry():
            raise ConnectionError("the mail is away")
        return {}
