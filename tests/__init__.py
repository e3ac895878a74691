"""The tests, by kind."""

import pytest

# Their assertions are those of tests too: let pytest say what differed.
pytest.register_assert_rewrite("tests.support", "tests.model")
