"""Parts on their own: no daemon, no disk but a temporary one."""
