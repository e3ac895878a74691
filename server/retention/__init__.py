"""Retention beside a running store: what planning has to know of it, applying plans to it, jobs and their schedule.

What is due, and why, is decided by the package `retention`, which knows neither stores nor files.
"""
