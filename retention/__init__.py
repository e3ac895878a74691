"""Months and what becomes of them: the bottom layer, which knows neither gRPC nor SQL."""
