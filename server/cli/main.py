"""The command `trackd`. Each command is a module of this package; here they only get their names.

serve.py offers `serve`, check.py `check`, bench.py `app`: functions and a Typer app that say in their own docstrings
what --help shows.
"""

from __future__ import annotations

import typer

from server.cli import bench, check, serve

app = typer.Typer(
    name="trackd",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keep events exactly once in monthly SQLite tables: stream them in over gRPC, read them back.",
)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
