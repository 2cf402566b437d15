"""A student signs up: one step, two side by side, and two after both.

```
                 ┌→ assign_tutor_group ┐
create_account ──┤                     ├→ activate_account → send_welcome
                 └→ issue_library_card ┘
```
"""

from __future__ import annotations

from app.models.sign_up import Account, ActiveAccount, Card, Group, SignUpRequest, Welcome
from app.partners import library_url
from app.services import sign_up
from tasker_core import ApiHandler
from tasker_core.step_handler.functional import depends_on, inputs, step_handler
from tasker_core.types import StepContext, StepHandlerResult


@step_handler("create_account")
@inputs(SignUpRequest)
async def create_account(inputs: SignUpRequest, context: StepContext) -> Account:
    return await sign_up.create_account(inputs, task_uuid=context.task_uuid)


@step_handler("assign_tutor_group")
@depends_on(account=("create_account", Account))
async def assign_tutor_group(account: Account) -> Group:
    return await sign_up.assign_tutor_group(account)


class IssueLibraryCard(ApiHandler):
    """Ask the library for a card.

    `api_failure` reads the answer's status: 503 and its like are tried again, after as
    long as `Retry-After` says, and 403 fails the step for good. If no answer comes, httpx
    raises, and that is tried again, too. The step's uuid is the same in every attempt, so
    the library gives one card, even if its first answer got lost.
    """

    handler_name = "issue_library_card"
    default_timeout = 5.0

    @property
    def base_url(self) -> str:
        return library_url()

    async def call(self, context: StepContext) -> StepHandlerResult:
        account = Account(**context.get_dependency_result("create_account"))
        response = await self.apost(
            "/cards",
            json={"email": account.email, "full_name": account.full_name},
            headers={"Idempotency-Key": str(context.step_uuid)},
        )
        return self.api_success(response) if response.ok else self.api_failure(response)


@step_handler("activate_account")
@depends_on(
    account=("create_account", Account),
    group=("assign_tutor_group", Group),
    card=("issue_library_card", Card),
)
async def activate_account(account: Account, group: Group, card: Card) -> ActiveAccount:
    return await sign_up.activate_account(account, group, card)


@step_handler("send_welcome")
@depends_on(account=("create_account", Account), active=("activate_account", ActiveAccount))
async def send_welcome(account: Account, active: ActiveAccount, context: StepContext) -> Welcome:
    return await sign_up.send_welcome(account, active, step_uuid=context.step_uuid)
