"""Who calls, as the server sees it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasker_core.wire.common import Answer, Moment


class WhoamiResponse(Answer):
    """Who calls, and what they may do."""

    subject: str
    method: Literal["api_key", "jwt", "application", "none"] = Field(
        description="application: it asks itself; none: nobody is asked."
    )
    permissions: list[str] = Field(description="All that are held, `resource:*` spelt out.")
    namespaces: list[str] | None = Field(description="The only ones that are seen; null: all.")
    expires_at: Moment | None = Field(description="When the credential ends; null: it does not.")
