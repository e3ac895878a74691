"""Random histories, on an engine and on the reference beside it."""
