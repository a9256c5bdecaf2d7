"""Calls that are handed on: blind and attended; by REFER, by code, by AMI."""

from __future__ import annotations

from tests.lab.scenes.catalogue import over, scene
from tests.lab.stage import Lab
from tests.lab.truth import CLIENT, CLIENT2, TALKED, incoming, outgoing


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def transfer_blind_by_refer(lab: Lab) -> None:
    """101 sends the client to 102 by REFER."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def transfer_blind_by_code(lab: Lab) -> None:
    """101 sends the client to 102 with ##."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers_by_code("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101))
async def transfer_blind_to_offline(lab: Lab) -> None:
    """101 sends the client by REFER to 102, who is not registered."""
    client = lab.client()
    await lab.phone(102).goes_offline()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers("102")
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def transfer_attended_by_refer(lab: Lab) -> None:
    """101 consults 102 and hands the client over by REFER with Replaces."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(101).hands_over()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def transfer_attended_by_code(lab: Lab) -> None:
    """101 consults 102 with *2 and hangs up."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults_by_code("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(101).hangs_up()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102 103+", TALKED, last="103", user=103))
async def transfer_attended_into_queue(lab: Lab) -> None:
    """101 takes the client into a queue with *2 and leaves before an agent answers; then 103 does."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults_by_code("701")
    await lab.phone(103).rings()
    await lab.phone(101).hangs_up()
    await lab.phone(103).answers()
    await client.talks(to=lab.phone(103))
    await over(lab, client)


@scene(outgoing(CLIENT, "102+ CLIENT+", TALKED, last="102", user=102))
async def transfer_of_outgoing_call(lab: Lab) -> None:
    """101 calls a client and sends it to 102 by REFER."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.answers()
    await lab.phone(101).transfers("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ CLIENT2+", TALKED, last=CLIENT2, user=101))
async def transfer_blind_to_outside(lab: Lab) -> None:
    """101 sends the client by REFER to a mobile phone outside."""
    client, mobile = lab.client(), lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers(mobile.number)
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def transfer_attended_while_ringing(lab: Lab) -> None:
    """101 calls 102 and hands the client over by REFER with Replaces before 102 answers."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults("102")
    await lab.phone(102).rings()
    await lab.phone(101).hears_ringing()
    await lab.phone(101).hands_over()
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102", TALKED, last="101", user=101))
async def transfer_attended_taken_back(lab: Lab) -> None:
    """101 consults 102 with *2, who refuses; 101 talks to the client again."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults_by_code("102")
    await lab.phone(102).rejects(486)
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def transfer_blind_by_ami(lab: Lab) -> None:
    """The operator's screen sends the client from 101 to 102 by a Redirect over AMI."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    channel = await lab.pbx_channel(await client.talks(to=lab.phone(101)))
    await lab.seen.pbx.action("Redirect", Channel=channel, Context="from-internal", Exten="102", Priority=1)
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def transfer_attended_by_ami(lab: Lab) -> None:
    """The operator's screen has 101 consult 102 by an Atxfer over AMI; 101 hangs up."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    channel = await lab.pbx_channel(await lab.phone(101).talks(to=client))
    await lab.seen.pbx.action("Atxfer", Channel=channel, Exten="102", Context="from-internal")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(101).hangs_up()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 101 102+ 103", TALKED, last="102", user=102))
async def transfer_attended_to_group(lab: Lab) -> None:
    """101 consults the ring group with *2, of which it is a member itself; 102 answers, 101 hangs up."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults_by_code("600")
    await lab.phone(103).rings()
    await lab.phone(102).answers()
    await lab.phone(102).talks()
    await lab.phone(101).hangs_up(lab.phone(101).legs[0])
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 101 102 103+", TALKED, last="103", user=103))
async def transfer_attended_to_group_while_ringing(lab: Lab) -> None:
    """101 consults the ring group with *2 and leaves while it rings; 103 answers."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults_by_code("600")
    for extension in (101, 102, 103):
        await lab.phone(extension).rings()
    await lab.phone(101).hangs_up(lab.phone(101).legs[0])
    await lab.phone(103).answers()
    await client.talks(to=lab.phone(103))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 104 101+", TALKED, last="101", user=101))
async def transfer_blind_and_back(lab: Lab) -> None:
    """101 sends the client to 104, who does not answer; the client comes back to 101."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers("614")
    await lab.phone(104).rings()
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 104", TALKED, last="101", user=101))
async def transfer_blind_not_answered(lab: Lab) -> None:
    """101 sends the client to 104; the client hangs up while it rings."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers("104")
    await lab.phone(104).rings()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102 103+", TALKED, last="103", user=103))
async def transfer_blind_to_queue(lab: Lab) -> None:
    """101 sends the client into a queue of 102 and 103; 103 answers."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers("704")
    await lab.phone(102).rings()
    await lab.phone(103).answers()
    await client.talks(to=lab.phone(103))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+ 103+", TALKED, last="103", user=103, lasts=(2, 3)))
async def transfer_blind_twice(lab: Lab) -> None:
    """101 sends the client to 102, who sends it to 103; with each of them it talks for two seconds."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    for extension in (101, 102):
        await client.talks(to=lab.phone(extension))
        await lab.passes(2)
        await lab.phone(extension).transfers(str(extension + 1))
        await lab.phone(extension + 1).answers()
    await client.talks(to=lab.phone(103))
    await lab.passes(2)
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ CLIENT2+", TALKED, last=CLIENT2, user=101))
async def transfer_attended_to_outside(lab: Lab) -> None:
    """101 calls a mobile phone outside and hands the client over to it by REFER with Replaces: both calls are one."""
    client, mobile = lab.client(), lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults(mobile.number)
    await mobile.answers()
    await lab.phone(101).talks(to=mobile)
    await lab.phone(101).hands_over()
    await client.talks(to=mobile)
    await over(lab, client)


@scene(
    incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101),
    outgoing(CLIENT2, "CLIENT2+", TALKED, last=CLIENT2, user=101),
)
async def consultation_outside(lab: Lab) -> None:
    """101 holds the client, asks somebody outside, and comes back: these stay two calls."""
    client, adviser = lab.client(), lab.client()
    await client.calls("4957770101")
    first = await lab.phone(101).answers()
    second = await lab.phone(101).consults(adviser.number)
    await adviser.answers()
    await lab.phone(101).talks(to=adviser)
    await lab.phone(101).hangs_up(second)
    assert lab.phone(101).leg is first
    await lab.phone(101).resumes()
    await client.talks(to=lab.phone(101))
    await over(lab, client)
