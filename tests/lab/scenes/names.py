"""Numbers and names in every shape: DIDs, callers' names, names of channels."""

from __future__ import annotations

from tests.lab.scenes.catalogue import over, scene
from tests.lab.stage import Lab
from tests.lab.truth import CLIENT, TALKED, incoming


async def answered(lab: Lab, did: str, name: str = "") -> None:
    """101 answers who calls that DID under that name."""
    client = lab.client()
    await client.calls(did, name=name)
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "+74957770101", "101+", TALKED, last="101", user=101))
async def did_with_plus(lab: Lab) -> None:
    """The carrier writes the DID with a plus."""
    await answered(lab, "+74957770101")


@scene(incoming(CLIENT, "84957770101", "101+", TALKED, last="101", user=101))
async def did_with_trunk_prefix(lab: Lab) -> None:
    """The carrier writes the DID as it is dialled at home, behind 8."""
    await answered(lab, "84957770101")


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101))
async def did_told_by_variable(lab: Lab) -> None:
    """The carrier sends no DID; the dialplan knows which trunk it was."""
    await answered(lab, "s")


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101, name="王小明 & Søn; <b>"))
async def name_in_many_scripts(lab: Lab) -> None:
    """The client's name is no plain text."""
    await answered(lab, "4957770101", name="王小明 & Søn; <b>")


@scene(incoming(CLIENT, "4957770870", "101+", TALKED, last="101", user=101, name="Иван"))
async def name_in_windows_1251(lab: Lab) -> None:
    """The client's name is Cyrillic of another encoding."""
    await answered(lab, "4957770870")


@scene(incoming(CLIENT, "4957770871", "101+", TALKED, last="101", user=101))
async def name_that_is_no_text(lab: Lab) -> None:
    """The client's name is bytes of no encoding."""
    await answered(lab, "4957770871")


@scene(incoming(CLIENT, "4957770880", "101+", TALKED, last="101", user=101))
async def local_channel_of_odd_name(lab: Lab) -> None:
    """101 rings through a Local channel with a half's mark in the middle of its name."""
    await answered(lab, "4957770880")
