"""Objectives as Prometheus sees them: the rules that watch their budgets, and what is left of those."""
