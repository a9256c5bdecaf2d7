"""The register of scenes, and what several of them share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.lab.scenario import Client
from tests.lab.stage import Lab
from tests.lab.truth import Truth

__all__ = ["SCENES", "Scene", "all_ring_the_last_answers", "over", "scene"]

Play = Callable[[Lab], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole call or several, and the truth about each of them by their beginning; `versions` of Asterisk have it."""

    name: str
    play: Play
    truths: tuple[Truth, ...]
    versions: tuple[str, ...]

    async def __call__(self, lab: Lab) -> None:
        await self.play(lab)


SCENES: dict[str, Scene] = {}
"""Name → scene, in the order of their files."""


def scene(*truths: Truth, versions: tuple[str, ...] = ("22", "16")) -> Callable[[Play], Play]:
    """Registers a scene under its function's name with what each of its calls must become."""

    def register(play: Play) -> Play:
        name = getattr(play, "__name__", "")
        SCENES[name] = Scene(name, play, truths, versions)
        return play

    return register


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
