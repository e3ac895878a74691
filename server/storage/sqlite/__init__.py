"""The embedded engine: a SQLite file a month, one writer, group commit. The only package that knows apsw."""
