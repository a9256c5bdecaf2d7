"""What happens seldom, and then must not be told wrong: calls crossing, being listened to, handed on by several."""

from __future__ import annotations

from tests.lab.scenes.catalogue import over, scene
from tests.lab.stage import Lab
from tests.lab.truth import (
    CLIENT,
    CLIENT2,
    GAVE_UP,
    LEFT_MESSAGE,
    NO_ANSWER,
    TALKED,
    incoming,
    internal,
    outgoing,
)


@scene(
    outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101),
    incoming(CLIENT, "4957770102", "102+", TALKED, last="102", user=102),
)
async def crossing_calls(lab: Lab) -> None:
    """101 calls a client, who is calling 102 at the same time."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    first = await client.answers()
    await lab.phone(101).talks(to=client)
    await client.calls("4957770102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await client.hangs_up(first)
    await over(lab, client)


@scene(outgoing(CLIENT, "102+ CLIENT+", TALKED, last=CLIENT, user=101))
async def colleague_sent_outside(lab: Lab) -> None:
    """101 calls 102, who sends it by REFER to a client: it is 101 who talks with the client."""
    client = lab.client()
    await lab.phone(101).calls("102")
    await lab.phone(102).answers()
    await lab.phone(102).transfers(client.number)
    await client.answers()
    await lab.phone(101).talks(to=client)
    await over(lab, client)


@scene(outgoing(CLIENT, "102+ CLIENT+", TALKED, last="102", user=102))
async def outgoing_handed_over(lab: Lab) -> None:
    """101 calls a client, consults 102 and hands the client over by REFER with Replaces."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.answers()
    await lab.phone(101).consults("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(101).hands_over()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(outgoing(CLIENT, "102+ CLIENT+", TALKED, last="102", user=102))
async def outgoing_handed_over_by_code(lab: Lab) -> None:
    """101 calls a client, consults 102 with *2 and hangs up."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.answers()
    await lab.phone(101).consults_by_code("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(101).hangs_up()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101 102 103+", TALKED, last="103", user=103))
async def forwarded_twice_by_302(lab: Lab) -> None:
    """101 forwards to 102, 102 to 103, who answers."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).forwards("102")
    await lab.phone(102).forwards("103")
    await lab.phone(103).answers()
    await client.talks(to=lab.phone(103))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770600", "101 102 103 104+", TALKED, last="104", user=104))
async def group_member_forwards(lab: Lab) -> None:
    """101, 102 and 103 ring; 102 forwards to 104, who answers."""
    client = lab.client()
    await client.calls("4957770600")
    for extension in (101, 103):
        await lab.phone(extension).rings()
    await lab.phone(102).forwards("104")
    await lab.phone(104).answers()
    await client.talks(to=lab.phone(104))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770704", "102+ 103 105+", TALKED, last="105", user=105))
async def queue_then_handed_on(lab: Lab) -> None:
    """102 takes the client from a queue and sends it to 105 by REFER."""
    client = lab.client()
    await client.calls("4957770704")
    await lab.phone(103).rings()
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await lab.phone(102).transfers("105")
    await lab.phone(105).answers()
    await client.talks(to=lab.phone(105))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770704", "102 103 105+", TALKED, last="105", user=105))
async def queue_picked_up(lab: Lab) -> None:
    """102 and 103 ring for a queue; 105 dials *8."""
    client = lab.client()
    await client.calls("4957770704")
    for extension in (102, 103):
        await lab.phone(extension).rings()
    await lab.phone(105).calls("*8")
    await lab.phone(102).is_hung_up()
    await client.talks(to=lab.phone(105))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770704", "", GAVE_UP))
async def queue_of_nobody(lab: Lab) -> None:
    """The client waits in a queue none of whose phones is registered, and leaves."""
    client = lab.client()
    for extension in (102, 103):
        await lab.phone(extension).goes_offline()
    await client.calls("4957770704")
    await client.is_answered()
    await lab.seen.event("QueueCallerJoin", within=8)
    await over(lab, client)


@scene(incoming(CLIENT, "4957770850", "101", LEFT_MESSAGE, user=101))
async def busy_then_voicemail(lab: Lab) -> None:
    """101 refuses; the client leaves a message."""
    client = lab.client()
    await client.calls("4957770850")
    await lab.phone(101).rejects(486)
    await lab.speaks_to_mailbox(101)
    await over(lab, client)


@scene(
    incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101),
    internal("102+", TALKED, last="102", user=102),
)
async def consultation_inside(lab: Lab) -> None:
    """101 holds the client, asks 102 on its other line, and comes back: these stay two calls."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    second = await lab.phone(101).consults("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(101).hangs_up(second)
    await lab.phone(101).resumes()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="101", user=101))
async def client_leaves_during_consultation(lab: Lab) -> None:
    """101 consults 102 with *2; meanwhile the client hangs up. 102 never talked with the client."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults_by_code("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    channel = await lab.pbx_channel(client.leg)
    await client.hangs_up()
    await lab.seen.event("Hangup", within=8, Channel=channel)  # else 101's hangup might still hand it over
    await lab.phone(101).hangs_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="101", user=101))
async def consulted_one_leaves(lab: Lab) -> None:
    """101 consults 102 with *2, who hangs up; 101 goes on with the client."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).consults_by_code("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(102).hangs_up()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770601", "101 102", NO_ANSWER, user=102))
async def hunt_for_nothing(lab: Lab) -> None:
    """Neither 101 nor 102 answers."""
    client = lab.client()
    await client.calls("4957770601")
    await lab.phone(102).rings()
    await client.is_hung_up()
    await lab.quiet()


@scene(
    incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101),
    incoming(CLIENT2, "4957770101", "101", GAVE_UP, user=101),
)
async def second_line(lab: Lab) -> None:
    """101 talks with a client and lets a second one ring until it gives up."""
    client, second = lab.client(), lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await second.calls("4957770101")
    await lab.phone(101).rings()
    await second.hangs_up()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 101+", TALKED, last="101", user=101))
async def parking_fetched_by_the_parker(lab: Lab) -> None:
    """101 parks the client with #72 and fetches it again."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    space = await lab.phone(101).parks_by_code()
    await lab.phone(101).is_hung_up()
    await lab.phone(101).calls(space)
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(internal("101 102+", TALKED, last="102", user=102))
async def pickup_of_a_colleague(lab: Lab) -> None:
    """103 calls 101; 102 picks it up."""
    await lab.phone(103).calls("101")
    await lab.phone(101).rings()
    await lab.phone(102).calls("*8")
    await lab.phone(103).talks(to=lab.phone(102))
    await lab.phone(103).hangs_up()
    await lab.quiet()


@scene(
    incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101),
    internal("", GAVE_UP, user=103),
)
async def listened_to(lab: Lab) -> None:
    """101 talks with a client; the supervisor at 103 listens."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await lab.phone(103).calls("501")
    await lab.seen.event("ChanSpyStart", within=8)
    await lab.phone(103).hangs_up()
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101))
async def click_to_call_by_local_channel(lab: Lab) -> None:
    """The PBX rings 101 through a Local channel, then calls the client."""
    client = lab.client()
    await lab.click_to_call(101, client.number, channel="Local/{}@from-internal")
    await lab.phone(101).answers()
    await client.answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101))
async def click_to_call_by_lasting_local_channel(lab: Lab) -> None:
    """The same through a Local channel that is never optimised away."""
    client = lab.client()
    await lab.click_to_call(101, client.number, channel="Local/{}@from-internal/n")
    await lab.phone(101).answers()
    await client.answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(internal("102+", TALKED, last="102", user=102))
async def click_to_call_a_colleague(lab: Lab) -> None:
    """The PBX rings 101, then 102."""
    await lab.click_to_call(101, "102")
    await lab.phone(101).answers()
    await lab.phone(102).answers()
    await lab.phone(102).talks(to=lab.phone(101))
    await lab.phone(102).hangs_up()
    await lab.quiet()


@scene(outgoing(CLIENT, "102+ CLIENT+", TALKED, last="102", user=102))
async def click_to_call_handed_on(lab: Lab) -> None:
    """The PBX rings 101, then the client, whom 101 sends to 102 by REFER."""
    client = lab.client()
    await lab.click_to_call(101, client.number)
    await lab.phone(101).answers()
    await client.answers()
    await client.talks(to=lab.phone(101))
    await lab.phone(101).transfers("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102))
async def talk_becomes_conference(lab: Lab) -> None:
    """The operator's screen moves the client and 101 into a conference, where 102 joins them."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    first, second = [await lab.pbx_channel(party.leg) for party in (client, lab.phone(101))]
    await lab.seen.pbx.action(
        "Redirect", Channel=first, Context="from-internal", Exten="900", Priority=1,
        ExtraChannel=second, ExtraContext="from-internal", ExtraExten="900", ExtraPriority=1,
    )  # fmt: skip
    await client.talks(to=lab.phone(101))
    await lab.phone(102).calls("900")
    await lab.phone(102).talks(to=client)
    for extension in (101, 102):
        await lab.phone(extension).hangs_up()
    await over(lab, client)
