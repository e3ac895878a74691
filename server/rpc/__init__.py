"""The gRPC surface: the only package that knows grpc and protobuf."""
