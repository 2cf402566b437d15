"""How the server is set up."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tasker_core.wire.common import Answer, Moment


class ConfigResponse(Answer):
    """The settings in force."""

    version: str = Field(description="The program's.")
    environment: str
    timestamp: Moment
    settings: dict[str, Any] = Field(
        description="By name; of secrets only that there is one, null: unset."
    )
