"""Fixtures of the lab: the processes live as long as the session of an xdist worker, the stage as long as a test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.lab.pair import Pair
from tests.lab.root import LabUnavailableError
from tests.lab.stage import Lab

__all__ = ["lab", "lab_pair"]


@pytest.fixture(scope="session")
def lab_pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A running PBX and its world. A lab that can't be had fails the test, loudly: it is never skipped."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def say(line: str) -> None:
        if terminal is not None:
            terminal.write_line(f"lab: {line}")

    # The runner keeps its loop to itself, so that the tests' own loops are untouched.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            pair = Pair(os.environ.get("ITGRIX_LAB_ASTERISK", "22"), say=say)
            runner.run(pair.start())
        except LabUnavailableError as failure:
            pytest.fail(f"the lab is unavailable: {failure}", pytrace=False)
    yield pair
    pair.stop()


@pytest.fixture
async def lab(lab_pair: Pair) -> AsyncIterator[Lab]:
    async with Lab(lab_pair) as stage:
        yield stage
