"""`trackd import`: events from files and from the history of a git repository, each stored once however often it runs."""
