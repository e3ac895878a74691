"""The way of a batch from a handler to the disk: validation, bounded queue, group commit."""
