"""The exit codes of commands; those of `trackd retention` have their own (server.cli.retention.reach)."""

EXIT_FAILED = 1
"""Refused, or done only in part."""
EXIT_UNREACHABLE = 2
"""No daemon answered; also the code for wrong usage."""
EXIT_CODES = "Exit codes: 0 done, 1 refused or done only in part, 2 no daemon answers (or wrong usage)."
