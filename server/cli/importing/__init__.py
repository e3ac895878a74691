"""`trackd import`: events from files and from git histories, each stored once however often it runs."""
