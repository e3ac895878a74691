"""Who may do what, and how the wire is protected: roles, tokens, certificates. Knows nothing of gRPC."""
