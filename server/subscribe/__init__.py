"""Following the store: events as they come, resumable by position."""
