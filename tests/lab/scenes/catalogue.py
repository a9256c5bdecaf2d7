"""The register of scenes, and what several of them share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.lab.scenario import Client
from tests.lab.stage import Lab

__all__ = ["SCENES", "Scene", "all_ring_the_last_answers", "over", "scene"]

Scene = Callable[[Lab], Awaitable[None]]
SCENES: dict[str, Scene] = {}
"""Name → scene, in the order of their files."""


def scene(play: Scene) -> Scene:
    """Registers a scene under its function's name."""
    SCENES[getattr(play, "__name__", "")] = play
    return play


async def over(lab: Lab, client: Client) -> None:
    """The client hangs up and nothing of the call stays."""
    await client.hangs_up()
    await lab.quiet()


async def all_ring_the_last_answers(lab: Lab, did: str, *extensions: int) -> None:
    """A client calls a group or queue: every phone rings, the last one answers."""
    client = lab.client()
    await client.calls(did)
    for extension in extensions:
        await lab.phone(extension).rings()
    await lab.phone(extensions[-1]).answers()
    await client.talks(to=lab.phone(extensions[-1]))
    await over(lab, client)
