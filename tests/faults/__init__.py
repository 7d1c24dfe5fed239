"""Faults at every request of every scenario, races, and proof that these tests notice a broken collection."""

import tests.conftest  # noqa: F401  the collection under its own name
