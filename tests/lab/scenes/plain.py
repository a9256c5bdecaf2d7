"""Calls as they come: answered, missed, refused, to one phone, to groups, queues and menus."""

from __future__ import annotations

from tests.lab.scenes.catalogue import all_ring_the_last_answers, over, scene
from tests.lab.stage import Lab
from tests.lab.truth import (
    BUSY,
    CLIENT,
    GAVE_UP,
    HIDDEN,
    NO_ANSWER,
    REJECTED,
    TALKED,
    UNREACHABLE,
    WRONG_NUMBER,
    incoming,
    internal,
    outgoing,
)


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101, name="Иван"))
async def in_answered(lab: Lab) -> None:
    """101 answers a client; the client hangs up."""
    client = lab.client()
    await client.calls("4957770101", name="Иван")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene(incoming(HIDDEN, "4957770101", "101+", TALKED, last="101", user=101))
async def in_anonymous(lab: Lab) -> None:
    """101 answers somebody who hides the number."""
    client = lab.client("anonymous")
    await client.calls("4957770101", name="Anonymous")
    await lab.phone(101).answers()
    await client.talks()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "101", BUSY, user=101))
async def in_busy(lab: Lab) -> None:
    """101 refuses with 486."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rejects(486)
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770101", "101", REJECTED, user=101))
async def in_declined(lab: Lab) -> None:
    """101 refuses with 603."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rejects(603)
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770201", "101", NO_ANSWER, user=101))
async def in_not_answered(lab: Lab) -> None:
    """101 rings until the PBX gives up."""
    client = lab.client()
    await client.calls("4957770201")
    await lab.phone(101).rings()
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770101", "101", GAVE_UP, user=101))
async def in_client_gives_up(lab: Lab) -> None:
    """101 rings until the client hangs up."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770101", "", UNREACHABLE))
async def in_phone_offline(lab: Lab) -> None:
    """101 is not registered."""
    client = lab.client()
    await lab.phone(101).goes_offline()
    await client.calls("4957770101")
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4957770999", "", WRONG_NUMBER))
async def in_unknown_number(lab: Lab) -> None:
    """A client dials a DID that nobody has."""
    client = lab.client()
    await client.calls("4957770999")
    await client.is_hung_up()
    await lab.quiet()


@scene(
    incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101),
    incoming(CLIENT, "4957770102", "102+", TALKED, last="102", user=102),
)
async def in_twice_at_once(lab: Lab) -> None:
    """One client has two calls at once, answered by 101 and 102."""
    client = lab.client()
    first = await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.calls("4957770102", trunk="trunk2")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await client.hangs_up(first)
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101))
async def out_answered(lab: Lab) -> None:
    """101 calls a client who answers; 101 hangs up."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.answers()
    await lab.phone(101).talks(to=client)
    await lab.phone(101).hangs_up()
    await lab.quiet()


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101))
async def out_with_prefix(lab: Lab) -> None:
    """101 calls a client behind 9."""
    client = lab.client()
    await lab.phone(101).calls(f"9{client.number}")
    await client.answers()
    await lab.phone(101).talks(to=client)
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT", BUSY, user=101))
async def out_busy(lab: Lab) -> None:
    """101 calls a client who is busy."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rejects(486)
    await lab.phone(101).is_hung_up()
    await lab.quiet()


@scene(outgoing(CLIENT, "CLIENT", WRONG_NUMBER, user=101))
async def out_not_existing(lab: Lab) -> None:
    """101 calls a number that the carrier does not know."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rejects(404)
    await lab.phone(101).is_hung_up()
    await lab.quiet()


@scene(outgoing(CLIENT, "CLIENT", GAVE_UP, user=101))
async def out_employee_gives_up(lab: Lab) -> None:
    """101 hangs up while the client's phone rings."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rings()
    await lab.phone(101).hangs_up()
    await lab.quiet()


@scene(internal("102+", TALKED, last="102", user=102))
async def internal_answered(lab: Lab) -> None:
    """101 talks to 102."""
    await lab.phone(101).calls("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(102).hangs_up()
    await lab.quiet()


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
async def voicemail(lab: Lab) -> None:
    """101 does not answer; the client leaves a message."""
    client = lab.client()
    await client.calls("4957770850")
    await lab.phone(101).rings()
    await client.is_answered()
    await lab.seen.event("Newexten", within=5, Application="VoiceMail")
    await over(lab, client)


@scene(incoming(CLIENT, "4957770301", "101+", TALKED, last="101", user=101, recorded=True))
async def recorded_in(lab: Lab) -> None:
    """A recorded incoming call."""
    client = lab.client()
    await client.calls("4957770301")
    await lab.phone(101).answers()
    await client.talks()
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101, recorded=True))
async def recorded_out(lab: Lab) -> None:
    """A recorded outgoing call (behind 5)."""
    client = lab.client()
    await lab.phone(101).calls(f"5{client.number}")
    await client.answers()
    await lab.phone(101).talks()
    await over(lab, client)


@scene(incoming(CLIENT, "4957770401", "101 +79990000101+", TALKED, last="+79990000101", user=101))
async def mobile_after_phone(lab: Lab) -> None:
    """101 does not answer; its owner's mobile phone outside does."""
    client, mobile = lab.client(), lab.client("+79990000101")
    await client.calls("4957770401")
    await lab.phone(101).rings()
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene(incoming(CLIENT, "4957770502", "102 +79990000102+", TALKED, last="+79990000102", user=102))
async def mobile_beside_phone(lab: Lab) -> None:
    """101 and its owner's mobile phone ring at once; the mobile answers."""
    client, mobile = lab.client(), lab.client("+79990000102")
    await client.calls("4957770502")
    await lab.phone(102).rings()
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)
