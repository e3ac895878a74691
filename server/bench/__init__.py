"""`trackd bench`: a real daemon in a process of its own, driven from outside, beside its limits.

It stands outside of the daemon's layers: it speaks gRPC like any client.
"""
