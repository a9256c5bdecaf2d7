"""Calls that change hands: transfers, forwarding, pickup, parking, hold, conferences, click-to-call."""

from __future__ import annotations

from tests.lab.scenes.catalogue import over, scene
from tests.lab.stage import Lab
from tests.lab.truth import BUSY, CLIENT, CLIENT2, TALKED, incoming, internal, outgoing


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
