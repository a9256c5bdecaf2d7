"""Calls that change hands: forwarding, pickup, parking, hold, conferences, click-to-call."""

from __future__ import annotations

from tests.lab.scenes.catalogue import over, scene
from tests.lab.stage import Lab
from tests.lab.truth import BUSY, CLIENT, CLIENT2, GAVE_UP, TALKED, incoming, internal, outgoing


@scene(incoming(CLIENT, "4957770900", "101+ 102+", TALKED, last="102", user=102))
async def conference(lab: Lab) -> None:
    """A client, 101 and 102 meet in a conference."""
    client = lab.client()
    await client.calls("4957770900")
    await client.is_answered()
    for extension in (101, 102):
        await lab.phone(extension).calls("900")
        await lab.phone(extension).talks(to=client)
    await lab.phone(101).hangs_up()
    await lab.phone(102).hangs_up()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101 102+", TALKED, last="102", user=102))
async def forwarded_by_302(lab: Lab) -> None:
    """101 answers 302 to 102, who answers."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).forwards("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101))
async def hold(lab: Lab) -> None:
    """101 holds the client and takes it back."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).holds()
    await lab.phone(101).resumes()
    await client.talks()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101 102+", TALKED, last="102", user=102))
async def pickup_by_group(lab: Lab) -> None:
    """101 rings; 102 dials *8 and has the call."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await lab.phone(102).calls("*8")
    await lab.phone(101).is_hung_up()
    await client.talks()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101 102+", TALKED, last="102", user=102))
async def pickup_directed(lab: Lab) -> None:
    """101 rings; 102 dials **101 and has the call."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await lab.phone(102).calls("**101")
    await lab.phone(101).is_hung_up()
    await client.talks()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def parking_by_refer(lab: Lab) -> None:
    """101 parks the client by REFER to 70; 102 fetches it."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    space = await lab.phone(101).parks()
    await lab.phone(102).calls(space)
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def parking_by_code(lab: Lab) -> None:
    """101 parks the client with #72; 102 fetches it."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    space = await lab.phone(101).parks_by_code()
    await lab.phone(102).calls(space)
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101))
async def click_to_call(lab: Lab) -> None:
    """The PBX rings 101, then calls the client that 101 asked for."""
    client = lab.client()
    await lab.click_to_call(101, client.number)
    await lab.phone(101).answers()
    await client.answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(internal("", BUSY, user=101))
async def click_to_call_refused(lab: Lab) -> None:
    """The PBX rings 101, who refuses."""
    client = lab.client()
    await lab.click_to_call(101, client.number)
    await lab.phone(101).rejects(486)
    await lab.quiet()


@scene(incoming(CLIENT, "4957770101", "101 CLIENT2+", TALKED, last=CLIENT2, user=101))
async def forwarded_to_outside_by_302(lab: Lab) -> None:
    """101 answers 302 to a mobile phone outside, which answers."""
    client, mobile = lab.client(), lab.client()
    await client.calls("4957770101")
    await lab.phone(101).forwards(mobile.number)
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT", BUSY, user=101))
async def click_to_call_not_answered(lab: Lab) -> None:
    """The PBX rings 101, then the client, who refuses."""
    client = lab.client()
    await lab.click_to_call(101, client.number)
    await lab.phone(101).answers()
    await client.rejects(486)
    await lab.phone(101).is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770900", "", GAVE_UP))
async def conference_of_one(lab: Lab) -> None:
    """A client waits in a conference to which nobody comes."""
    client = lab.client()
    await client.calls("4957770900")
    await lab.seen.event("ConfbridgeJoin", within=8)
    await over(lab, client)


@scene(
    incoming(CLIENT, "4957770900", "101+", TALKED, last="101", user=101),
    incoming(CLIENT2, "4957770900", "101+", TALKED, last="101", user=101),
)
async def conference_of_two_clients(lab: Lab) -> None:
    """Two clients and 101 meet in a conference: each client has a call of his own, in which he talked with 101."""
    client, second = lab.client(), lab.client()
    for one in (client, second):
        await one.calls("4957770900")
        await one.is_answered()
    await lab.phone(101).calls("900")
    await lab.phone(101).talks(to=client)
    await lab.phone(101).talks(to=second)
    await lab.phone(101).hangs_up()
    await client.hangs_up()
    await over(lab, second)


@scene(incoming(CLIENT, "4957770101", "101+ 101+", TALKED, last="101", user=101))
async def parking_comes_back(lab: Lab) -> None:
    """101 parks the client by REFER; nobody fetches it, and it comes back to 101."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).parks("60")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101))
async def parking_given_up(lab: Lab) -> None:
    """101 parks the client, who hangs up."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).parks()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101, lasts=(3, 5)))
async def hold_by_both(lab: Lab) -> None:
    """101 and the client talk, 101 holds, takes back, talks on: three seconds in all."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await lab.passes(1)
    await lab.phone(101).holds()
    await lab.passes(1)
    await lab.phone(101).resumes()
    await client.talks(to=lab.phone(101))
    await lab.passes(1)
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT", GAVE_UP, user=101))
async def click_to_call_given_up(lab: Lab) -> None:
    """The PBX rings 101, then the client; 101 hangs up while it rings."""
    client = lab.client()
    await lab.click_to_call(101, client.number)
    await lab.phone(101).answers()
    await client.rings()
    await lab.phone(101).hangs_up()
    await lab.quiet()
