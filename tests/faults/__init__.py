"""Disks that fail, processes that are killed, files that are damaged: what was acknowledged is there all the same."""
