"""Archives: made, read by others, verified, cut down, destroyed, restored."""
