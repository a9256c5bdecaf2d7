"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from itgrix_kommo import log

pytest_plugins = ["tests.lab.fixtures"]


@pytest.fixture(autouse=True)
def _secrets_of_its_own() -> Iterator[None]:
    """A secret of one test hides nothing in what the next one reads: hypothesis makes secrets of any letters."""
    kept = log._mask._forms, log._mask._any_form
    yield
    log._mask._forms, log._mask._any_form = kept
