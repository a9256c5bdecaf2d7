"""Calls to several phones or to none: groups, queues, agents, menus, mailboxes."""

from __future__ import annotations

from tests.lab.scenes.catalogue import all_ring_the_last_answers, over, scene
from tests.lab.stage import Lab
from tests.lab.truth import CLIENT, CLIENT2, GAVE_UP, LEFT_MESSAGE, NO_ANSWER, TALKED, incoming, internal


@scene(incoming(CLIENT, "4957770600", "101 102+ 103", TALKED, last="102", user=102))
async def group_answered(lab: Lab) -> None:
    """101, 102 and 103 ring; 102 answers."""
    client = lab.client()
    await client.calls("4957770600")
    for extension in (101, 103):
        await lab.phone(extension).rings()
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770602", "101 102 103", NO_ANSWER, user=103))
async def group_missed(lab: Lab) -> None:
    """101, 102 and 103 ring until the PBX gives up; 103 refuses before."""
    client = lab.client()
    await client.calls("4957770602")
    await lab.phone(103).rejects(486)
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770603", "101+ 102", TALKED, last="101", user=101))
async def group_of_local_channels(lab: Lab) -> None:
    """101 and 102 ring through Local channels; 101 answers."""
    client = lab.client()
    await client.calls("4957770603")
    await lab.phone(102).rings()
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770601", "101 102+", TALKED, last="102", user=102))
async def hunt(lab: Lab) -> None:
    """101 does not answer, then 102 does."""
    client = lab.client()
    await client.calls("4957770601")
    await lab.phone(101).rings()
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770700", "101 102 103+", TALKED, last="103", user=103))
async def queue_of_devices(lab: Lab) -> None:
    """A queue rings 101, 102, 103; 103 answers."""
    await all_ring_the_last_answers(lab, "4957770700", 101, 102, 103)


@scene(incoming(CLIENT, "4957770701", "101 102 103+", TALKED, last="103", user=103))
async def queue_of_local_channels(lab: Lab) -> None:
    """A queue rings Local/n members; 103 answers."""
    await all_ring_the_last_answers(lab, "4957770701", 101, 102, 103)


@scene(incoming(CLIENT, "4957770703", "101 102+", TALKED, last="102", user=102))
async def queue_of_vanishing_local_channels(lab: Lab) -> None:
    """A queue rings Local members that optimise away; 102 answers."""
    await all_ring_the_last_answers(lab, "4957770703", 101, 102)


@scene(incoming(CLIENT, "4957770702", "101 102+", TALKED, last="102", user=102))
async def queue_one_by_one(lab: Lab) -> None:
    """A queue rings 101, who refuses, then 102, who answers."""
    client = lab.client()
    await client.calls("4957770702")
    await lab.phone(101).rejects(486)
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770700", "101 102 103", GAVE_UP, user=103))
async def queue_abandoned(lab: Lab) -> None:
    """The client leaves the queue while its phones ring."""
    client = lab.client()
    await client.calls("4957770700")
    await lab.phone(101).rings()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770709", "101 102 103", NO_ANSWER, user=103))
async def queue_gives_up(lab: Lab) -> None:
    """The queue lets the client go after four seconds."""
    client = lab.client()
    await client.calls("4957770709")
    await lab.phone(101).rings()
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770800", "101+", TALKED, last="101", user=101))
async def menu_then_phone(lab: Lab) -> None:
    """The client presses 1 in the menu; 101 answers."""
    client = lab.client()
    await client.calls("4957770800")
    await client.is_answered()
    await client.presses("1")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(CLIENT, "4957770800", "", GAVE_UP, ivr=True))
async def menu_abandoned(lab: Lab) -> None:
    """The client hangs up in the menu."""
    client = lab.client()
    await client.calls("4957770800")
    await client.is_answered()
    await lab.seen.event("Newexten", within=5, Application="BackGround")
    await over(lab, client)


@scene(incoming(CLIENT, "4957770850", "101", NO_ANSWER, user=101))
async def voicemail_without_message(lab: Lab) -> None:
    """101 does not answer; the client hangs up before the mailbox's tone."""
    client = lab.client()
    await client.calls("4957770850")
    await lab.phone(101).rings()
    await client.is_answered()
    await lab.seen.event("Newexten", within=5, Application="VoiceMail")
    await over(lab, client)


@scene(incoming(CLIENT, "4957770850", "101", LEFT_MESSAGE, user=101))
async def voicemail_with_message(lab: Lab) -> None:
    """101 does not answer; the client speaks to the mailbox for two seconds."""
    client = lab.client()
    await client.calls("4957770850")
    await lab.phone(101).rings()
    await lab.speaks_to_mailbox(101)
    await over(lab, client)


@scene(incoming(CLIENT, "4957770851", "", LEFT_MESSAGE))
async def voicemail_at_once(lab: Lab) -> None:
    """The mailbox of 102 takes the call without ringing anybody; the client leaves a message."""
    client = lab.client()
    await client.calls("4957770851")
    await lab.speaks_to_mailbox(102)
    await over(lab, client)


@scene(incoming(CLIENT, "4957770705", "101", GAVE_UP, user=101))
async def queue_abandoned_between_rings(lab: Lab) -> None:
    """The queue rang 101 and lets it rest before the next try; the client leaves."""
    client = lab.client()
    await client.calls("4957770705")
    await lab.phone(101).rings()
    await lab.phone(101).is_hung_up()
    await over(lab, client)


@scene(
    internal("", GAVE_UP, user=101),
    incoming(CLIENT, "4957770708", "101+", TALKED, last="101", user=101),
    incoming(CLIENT2, "4957770708", "101+", TALKED, last="101", user=101),
)
async def queue_with_agent(lab: Lab) -> None:
    """101 logs in as an agent and stays on the line; two clients come to it, one after the other."""
    await lab.phone(101).calls("*45")
    await lab.seen.event("AgentLogin", within=8, Agent="1001")
    for client in (lab.client(), lab.client()):
        await client.calls("4957770708")
        await client.talks(to=lab.phone(101))
        await client.hangs_up()
        await lab.only_left(lab.phone(101))
    await lab.phone(101).hangs_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770801", "", NO_ANSWER, ivr=True))
async def menu_ends(lab: Lab) -> None:
    """The client presses nothing until the menu hangs up."""
    client = lab.client()
    await client.calls("4957770801")
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770800", "101 102 103", GAVE_UP, user=103))
async def menu_then_queue_abandoned(lab: Lab) -> None:
    """The client presses 7 and leaves the queue while its phones ring."""
    client = lab.client()
    await client.calls("4957770800")
    await client.is_answered()
    await client.presses("7")
    for extension in (101, 102, 103):
        await lab.phone(extension).rings()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770800", "101", GAVE_UP, user=101))
async def menu_then_phone_abandoned(lab: Lab) -> None:
    """The client presses 1 and hangs up while 101 rings."""
    client = lab.client()
    await client.calls("4957770800")
    await client.is_answered()
    await client.presses("1")
    await lab.phone(101).rings()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770801", "101", GAVE_UP, user=101, ivr=True))
async def menu_again_then_abandoned(lab: Lab) -> None:
    """The client presses 1, 101 does not answer, and the client hangs up when the menu begins again."""
    client = lab.client()
    await client.calls("4957770801")
    await client.is_answered()
    await client.presses("1")
    await lab.phone(101).rings()
    told = len(lab.seen.pbx_events)
    await lab.seen.event("Newexten", within=8, since=told, Application="BackGround")
    await over(lab, client)
