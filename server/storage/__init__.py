"""Keeping events: the contract that engines fulfil (`contract`), the engines, and the `factory` that picks one."""
