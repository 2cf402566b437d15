"""Before a call: the client for the server, and the question whether it is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output

if TYPE_CHECKING:
    from tasker_core.client import TaskerClient

INITIATOR = "tasker-ctl"
SOURCE_SYSTEM = "cli"


def connect(out: Output) -> TaskerClient:
    """Make the client for the server that is named, else for the dev of this directory."""
    from tasker_core.cli.whereabouts import find_url
    from tasker_core.client import TaskerClient
    from tasker_core.client.address import names_url
    from tasker_core.client.profile import InvalidProfile, names_profile, read_profile

    url = out.options.url
    if url is None and not names_url() and not names_profile(out.options.profile):
        url = find_url()
    try:
        retries = read_profile(out.options.profile).max_retries
        return TaskerClient(
            INITIATOR,
            SOURCE_SYSTEM,
            base_url=url,
            profile=out.options.profile,
            timeout=out.options.timeout,
            max_retries=retries or 0,  # a person sees that it failed, and can try again
        )
    except InvalidProfile as error:
        raise typer.BadParameter(str(error), param_hint="--profile") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None


def confirm(question: str) -> None:
    """Ask before something is done; leave if the answer is no."""
    if not typer.confirm(question, err=True):
        typer.echo("nothing was done", err=True)
        raise typer.Exit(ExitCode.FAILED)
