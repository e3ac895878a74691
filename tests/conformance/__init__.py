"""Every client against the same scenarios: see clients/conformance/README.md."""

import pytest

# What they assert is told in full, as in a test.
pytest.register_assert_rewrite("tests.conformance.stage", "tests.conformance.driver")
