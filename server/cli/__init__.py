"""The command line."""

import os

# Read when gRPC is imported. By default it writes a line of its own, which is no JSON and which nobody can limit, for
# every client that does not get through the TLS handshake.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
