"""Answering questions: planning, reader threads, page tokens."""
