"""Traces: what a PBX tells the daemon's AMI user, frame by frame with the time of arrival.

A trace is text: before each frame a line `@ <unix time>`, then its headers as they came (line ends as LF), then a blank
line. A stray blank line in front of a frame, which some TestEvents cause, is not kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.lab.ami_control import AmiControl
from tests.lab.pair import Pair

__all__ = ["recording", "trace"]


@asynccontextmanager
async def recording(pair: Pair, path: Path) -> AsyncIterator[None]:
    """Records with a connection of its own, whose rights are the daemon's; writes the file when the block ends."""
    control = await AmiControl.connect(
        pair.pbx.name, pair.pbx.ports.ami, "itgrix", "itgrix-secret", keep_frames=True
    )  # fmt: skip
    try:
        yield
        await control.action("Ping")  # its answer comes after everything that the block caused
    finally:
        await control.close()
        save(control.frames, path)


def save(frames: Iterable[tuple[float, bytes]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(trace(frames))


def trace(frames: Iterable[tuple[float, bytes]]) -> bytes:
    """The trace of frames with their times; answers to the recorder's own actions are left out."""
    kept = ((when, frame.strip(b"\r\n")) for when, frame in frames)
    return b"".join(
        b"@ %.6f\n%b\n\n" % (when, frame.replace(b"\r\n", b"\n"))
        for when, frame in kept
        if frame and not frame.startswith(b"Response:")
    )
