"""The command `trackd`. Each command is a module of this package; here they only get their names.

serve.py offers `serve`, check.py `check`, bench.py `app`, and so on: functions and Typer apps that say in their own
docstrings what --help shows.
"""

from __future__ import annotations

import typer

from server.cli import (
    archive,
    bench,
    check,
    count,
    demo,
    events,
    health,
    query,
    serve,
    slo,
    tail,
    tokens,
    types,
)
from server.cli.importing import command as importing
from server.cli.pulling import command as pulling
from server.cli.retention import command as retention
from server.cli.terminal import EXIT_CODES

app = typer.Typer(
    name="trackd",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Paragraphs of docstrings flow to the width of the terminal instead of keeping the line ends of the source.
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep events exactly once in monthly SQLite tables: stream them in over gRPC, read them back.\n\n"
    "New here? Run: trackd demo",
    epilog=f"{EXIT_CODES} Commands that talk to a daemon take --target, or TRACKD_TARGET from the "
    "environment; for TLS and tokens TRACKD_CA and TRACKD_TOKEN_FILE.",
)
app.command("demo", rich_help_panel="Start")(demo.demo)
app.command("serve", rich_help_panel="Start")(serve.serve)
app.command("import", rich_help_panel="Send and ask")(importing.import_)
app.command("pull", rich_help_panel="Send and ask")(pulling.pull)
app.command("events", rich_help_panel="Send and ask")(events.events)
app.command("tail", rich_help_panel="Send and ask")(tail.tail)
app.command("count", rich_help_panel="Send and ask")(count.count)
app.command("query", rich_help_panel="Send and ask")(query.query)
app.add_typer(types.app, name="types", rich_help_panel="Send and ask")
app.command("health", rich_help_panel="Operate")(health.health)
app.command("check", rich_help_panel="Operate")(check.check)
app.add_typer(retention.app, name="retention", rich_help_panel="Operate")
app.add_typer(retention.hold, name="hold", rich_help_panel="Operate")
app.add_typer(archive.app, name="archive", rich_help_panel="Operate")
app.add_typer(slo.app, name="slo", rich_help_panel="Operate")
app.add_typer(tokens.app, name="token", rich_help_panel="Operate")
app.add_typer(bench.app, name="bench", rich_help_panel="Operate")


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
