"""Every client against the same scenarios: see clients/conformance/README.md."""
