"""The gRPC surface: the only package that knows grpc and protobuf."""

import os

# The daemon never forks after this import; gRPC's fork handlers would only cost and can hang a spawn.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# What goes wrong is told by us, as a reason; gRPC's own lines beside it say the same in other words.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
