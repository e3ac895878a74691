"""The real commands against real daemons."""
