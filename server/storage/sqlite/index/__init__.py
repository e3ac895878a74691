"""Derived data: the tail in memory, sorted runs and rollups in index-*.db, and folding the one into the other."""
