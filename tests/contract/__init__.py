"""What every engine promises (server/storage/contract.py), told once and run against each of them."""
