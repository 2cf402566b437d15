"""The command itself: `tasker-ctl GROUP COMMAND`.

A group's module is imported when it is named, so that `--help` and completion are
quick. Whatever goes wrong ends here, as one message and an exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from tasker_core.cli import options
from tasker_core.cli.options import Format, Options
from tasker_core.cli.output import Output


class Entry(NamedTuple):
    """Where a group or command is, and what the help says of it until it is loaded."""

    module: str
    help: str


ENTRIES = {
    "dev": Entry("dev", "Run everything here: database, server, worker, and reload."),
    "task": Entry("task", "Create tasks, look at them, watch them, and step in."),
    "dlq": Entry("dlq", "Look after dead letters: tasks put aside for a person."),
    "template": Entry("template", "Check, register and generate templates."),
    "analytics": Entry("analytics", "Measure how tasks and steps do."),
    "server": Entry("processes", "Run the HTTP server."),
    "worker": Entry("processes", "Run a worker."),
    "events": Entry("events", "Relay durable events, and look after those that failed."),
    "auth": Entry("auth", "Make and revoke what callers show the server."),
    "config": Entry("config", "Show, explain and check the settings."),
    "profile": Entry("profile", "Show and check the profiles of servers."),
    "doctor": Entry("doctor", "Look for what keeps work from moving."),
    "db": Entry("db", "Look after the database: its schema, and what it keeps."),
}


class Root(TyperGroup):
    """The top of the command: loads its parts late, and reports every failure."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the groups and commands without loading them."""
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """Give a stand-in, enough for the help; the one that runs comes from `load`."""
        entry = ENTRIES.get(cmd_name)
        return TyperCommand(cmd_name, help=entry.help, callback=None) if entry else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options of every command to the front, wherever they stand."""
        common, rest = options.split(args)
        if common:
            common, rest = options.split(args, self._own_options(ctx, rest))
        return super().parse_args(ctx, [*common, *rest])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find and load what is to run; if there is no such thing, suggest a name."""
        self.commands = {name: TyperCommand(name) for name in ENTRIES}
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line, and leave with its exit code."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except (Exception, KeyboardInterrupt) as error:
            code = _report(error, options.glance(words))
        sys.exit(code if isinstance(code, int) else 0)

    def _own_options(self, ctx: Any, words: Sequence[str]) -> set[str]:
        """Say which options the command on the line has itself."""
        path = [word for word in words if not word.startswith("-")]
        if not path or path[0] not in ENTRIES:
            return set()
        command: Any = load(path[0])
        if isinstance(command, TyperGroup):
            command = command.get_command(ctx, path[1]) if len(path) > 1 else None
        return {name for p in command.params for name in p.opts} if command else set()


def load(name: str) -> TyperCommand | TyperGroup:
    """Import a group or a command of `ENTRIES`."""
    entry = ENTRIES[name]
    module = import_module(f"tasker_core.cli.{entry.module}")
    loaded: Any = typer.main.get_command(getattr(module, f"{name}_app"))
    loaded.name = name
    loaded.help = entry.help if isinstance(loaded, TyperGroup) else loaded.help
    return loaded  # type: ignore[no-any-return] # typer brings its own classes of click


app = typer.Typer(
    name="tasker-ctl",
    cls=Root,
    help="Durable workflows in Python and PostgreSQL.",
    epilog="The options of this page may stand anywhere on the line. Start with: tasker-ctl dev",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"tasker-ctl {version('tasker-py')}")
        raise typer.Exit


@app.callback()
def common(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="How data is written.")] = Format.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing but the data, and errors.")
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", envvar="NO_COLOR", help="No colours.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Log more; -vv shows tracebacks, too."),
    ] = 0,
    url: Annotated[
        str | None,
        typer.Option(envvar="TASKER_URL", help="The server's address.", metavar="URL"),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            envvar="TASKER_CLIENT_PROFILE",
            help="The profile of .config/tasker.toml to use.",
            metavar="NAME",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Seconds that one request may take.",
            show_default="the profile's, or 30",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Durable workflows in Python and PostgreSQL."""
    ctx.obj = Output(
        Options(
            format=Format.JSON if json else format,
            quiet=quiet,
            verbose=verbose,
            color=not no_color,
            url=url,
            profile=profile,
            timeout=timeout,
        )
    )


def main() -> NoReturn:
    """Run `tasker-ctl`."""
    app(prog_name="tasker-ctl")
    raise AssertionError("Root.main leaves the process")


def _report(error: BaseException, given: Options) -> int:
    from tasker_core.cli.failures import describe

    if given.verbose >= 2:
        import traceback

        traceback.print_exception(error)
    failure = describe(error)
    if not failure.message:  # no arguments: the help was the answer
        return int(failure.exit_code)
    Output(given).fail(failure)
    return int(failure.exit_code)


if __name__ == "__main__":
    main()
