"""Whole calls, one function each: every kind of call that a PBX has, for recording traces and for trying the lab.

A scene ends with no call left. Its docstring says what happened, from the office's point of view.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.lab.scenario import Client
from tests.lab.stage import Lab

__all__ = ["SCENES"]

Scene = Callable[[Lab], Awaitable[None]]
SCENES: dict[str, Scene] = {}


def scene(play: Scene) -> Scene:
    SCENES[getattr(play, "__name__", "")] = play
    return play


async def over(lab: Lab, client: Client) -> None:
    """The client hangs up and nothing of the call stays."""
    await client.hangs_up()
    await lab.quiet()


@scene
async def in_answered(lab: Lab) -> None:
    """101 answers a client; the client hangs up."""
    client = lab.client()
    await client.calls("4957770101", name="Иван")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene
async def in_anonymous(lab: Lab) -> None:
    """101 answers somebody who hides the number."""
    client = lab.client("anonymous")
    await client.calls("4957770101", name="Anonymous")
    await lab.phone(101).answers()
    await client.talks()
    await over(lab, client)


@scene
async def in_busy(lab: Lab) -> None:
    """101 refuses with 486."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rejects(486)
    await client.is_hung_up()
    await lab.quiet()


@scene
async def in_declined(lab: Lab) -> None:
    """101 refuses with 603."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rejects(603)
    await client.is_hung_up()
    await lab.quiet()


@scene
async def in_not_answered(lab: Lab) -> None:
    """101 rings until the PBX gives up."""
    client = lab.client()
    await client.calls("4957770201")
    await lab.phone(101).rings()
    await client.is_hung_up()
    await lab.quiet()


@scene
async def in_client_gives_up(lab: Lab) -> None:
    """101 rings until the client hangs up."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await over(lab, client)


@scene
async def in_phone_offline(lab: Lab) -> None:
    """101 is not registered."""
    client = lab.client()
    await lab.phone(101).goes_offline()
    await client.calls("4957770101")
    await client.is_hung_up()
    await lab.quiet()


@scene
async def in_unknown_number(lab: Lab) -> None:
    """A client dials a DID that nobody has."""
    client = lab.client()
    await client.calls("4957770999")
    await client.is_hung_up()
    await lab.quiet()


@scene
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


@scene
async def out_answered(lab: Lab) -> None:
    """101 calls a client who answers; 101 hangs up."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.answers()
    await lab.phone(101).talks(to=client)
    await lab.phone(101).hangs_up()
    await lab.quiet()


@scene
async def out_with_prefix(lab: Lab) -> None:
    """101 calls a client behind 9."""
    client = lab.client()
    await lab.phone(101).calls(f"9{client.number}")
    await client.answers()
    await lab.phone(101).talks(to=client)
    await over(lab, client)


@scene
async def out_busy(lab: Lab) -> None:
    """101 calls a client who is busy."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rejects(486)
    await lab.phone(101).is_hung_up()
    await lab.quiet()


@scene
async def out_not_existing(lab: Lab) -> None:
    """101 calls a number that the carrier does not know."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rejects(404)
    await lab.phone(101).is_hung_up()
    await lab.quiet()


@scene
async def out_employee_gives_up(lab: Lab) -> None:
    """101 hangs up while the client's phone rings."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rings()
    await lab.phone(101).hangs_up()
    await lab.quiet()


@scene
async def internal_answered(lab: Lab) -> None:
    """101 talks to 102."""
    await lab.phone(101).calls("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks(to=lab.phone(102))
    await lab.phone(102).hangs_up()
    await lab.quiet()


@scene
async def group_answered(lab: Lab) -> None:
    """101, 102 and 103 ring; 102 answers."""
    client = lab.client()
    await client.calls("4957770600")
    for extension in (101, 103):
        await lab.phone(extension).rings()
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def group_missed(lab: Lab) -> None:
    """101, 102 and 103 ring until the PBX gives up; 103 refuses before."""
    client = lab.client()
    await client.calls("4957770602")
    await lab.phone(103).rejects(486)
    await client.is_hung_up()
    await lab.quiet()


@scene
async def group_of_local_channels(lab: Lab) -> None:
    """101 and 102 ring through Local channels; 101 answers."""
    client = lab.client()
    await client.calls("4957770603")
    await lab.phone(102).rings()
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene
async def hunt(lab: Lab) -> None:
    """101 does not answer, then 102 does."""
    client = lab.client()
    await client.calls("4957770601")
    await lab.phone(101).rings()
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


async def queue(lab: Lab, did: str, *extensions: int) -> None:
    """All of the queue's phones ring, the last answers."""
    client = lab.client()
    await client.calls(did)
    for extension in extensions:
        await lab.phone(extension).rings()
    await lab.phone(extensions[-1]).answers()
    await client.talks(to=lab.phone(extensions[-1]))
    await over(lab, client)


@scene
async def queue_of_devices(lab: Lab) -> None:
    """A queue rings 101, 102, 103; 103 answers."""
    await queue(lab, "4957770700", 101, 102, 103)


@scene
async def queue_of_local_channels(lab: Lab) -> None:
    """A queue rings Local/n members; 103 answers."""
    await queue(lab, "4957770701", 101, 102, 103)


@scene
async def queue_of_vanishing_local_channels(lab: Lab) -> None:
    """A queue rings Local members that optimise away; 102 answers."""
    await queue(lab, "4957770703", 101, 102)


@scene
async def queue_one_by_one(lab: Lab) -> None:
    """A queue rings 101, who refuses, then 102, who answers."""
    client = lab.client()
    await client.calls("4957770702")
    await lab.phone(101).rejects(486)
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def queue_abandoned(lab: Lab) -> None:
    """The client leaves the queue while its phones ring."""
    client = lab.client()
    await client.calls("4957770700")
    await lab.phone(101).rings()
    await over(lab, client)


@scene
async def queue_gives_up(lab: Lab) -> None:
    """The queue lets the client go after four seconds."""
    client = lab.client()
    await client.calls("4957770709")
    await lab.phone(101).rings()
    await client.is_hung_up()
    await lab.quiet()


@scene
async def menu_then_phone(lab: Lab) -> None:
    """The client presses 1 in the menu; 101 answers."""
    client = lab.client()
    await client.calls("4957770800")
    await client.is_answered()
    await client.presses("1")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene
async def menu_abandoned(lab: Lab) -> None:
    """The client hangs up in the menu."""
    client = lab.client()
    await client.calls("4957770800")
    await client.is_answered()
    await lab.seen.event("Newexten", within=5, Application="BackGround")
    await over(lab, client)


@scene
async def voicemail(lab: Lab) -> None:
    """101 does not answer; the client leaves a message."""
    client = lab.client()
    await client.calls("4957770850")
    await lab.phone(101).rings()
    await client.is_answered()
    await lab.seen.event("Newexten", within=5, Application="VoiceMail")
    await over(lab, client)


@scene
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


@scene
async def recorded_in(lab: Lab) -> None:
    """A recorded incoming call."""
    client = lab.client()
    await client.calls("4957770301")
    await lab.phone(101).answers()
    await client.talks()
    await over(lab, client)


@scene
async def recorded_out(lab: Lab) -> None:
    """A recorded outgoing call (behind 5)."""
    client = lab.client()
    await lab.phone(101).calls(f"5{client.number}")
    await client.answers()
    await lab.phone(101).talks()
    await over(lab, client)


@scene
async def mobile_after_phone(lab: Lab) -> None:
    """101 does not answer; its owner's mobile phone outside does."""
    client, mobile = lab.client(), lab.client("+79990000101")
    await client.calls("4957770401")
    await lab.phone(101).rings()
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene
async def mobile_beside_phone(lab: Lab) -> None:
    """101 and its owner's mobile phone ring at once; the mobile answers."""
    client, mobile = lab.client(), lab.client("+79990000102")
    await client.calls("4957770502")
    await lab.phone(102).rings()
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene
async def forwarded_by_302(lab: Lab) -> None:
    """101 answers 302 to 102, who answers."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).forwards("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def hold(lab: Lab) -> None:
    """101 holds the client and takes it back."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).holds()
    await lab.phone(101).resumes()
    await client.talks()
    await over(lab, client)


@scene
async def pickup_by_group(lab: Lab) -> None:
    """101 rings; 102 dials *8 and has the call."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await lab.phone(102).calls("*8")
    await lab.phone(101).is_hung_up()
    await client.talks()
    await over(lab, client)


@scene
async def pickup_directed(lab: Lab) -> None:
    """101 rings; 102 dials **101 and has the call."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await lab.phone(102).calls("**101")
    await lab.phone(101).is_hung_up()
    await client.talks()
    await over(lab, client)


@scene
async def transfer_blind_by_refer(lab: Lab) -> None:
    """101 sends the client to 102 by REFER."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def transfer_blind_by_code(lab: Lab) -> None:
    """101 sends the client to 102 with ##."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers_by_code("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def transfer_blind_to_offline(lab: Lab) -> None:
    """101 sends the client by REFER to 102, who is not registered."""
    client = lab.client()
    await lab.phone(102).goes_offline()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await lab.phone(101).transfers("102")
    await client.is_hung_up()
    await lab.quiet()


@scene
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


@scene
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


@scene
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


@scene
async def transfer_of_outgoing_call(lab: Lab) -> None:
    """101 calls a client and sends it to 102 by REFER."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.answers()
    await lab.phone(101).transfers("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def parking_by_refer(lab: Lab) -> None:
    """101 parks the client by REFER to 70; 102 fetches it."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    space = await lab.phone(101).parks()
    await lab.phone(102).calls(space)
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def parking_by_code(lab: Lab) -> None:
    """101 parks the client with #72; 102 fetches it."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    space = await lab.phone(101).parks_by_code()
    await lab.phone(102).calls(space)
    await client.talks(to=lab.phone(102))
    await over(lab, client)


@scene
async def click_to_call(lab: Lab) -> None:
    """The PBX rings 101, then calls the client that 101 asked for."""
    client = lab.client()
    await lab.click_to_call(101, client.number)
    await lab.phone(101).answers()
    await client.answers()
    await client.talks(to=lab.phone(101))
    await over(lab, client)


@scene
async def click_to_call_refused(lab: Lab) -> None:
    """The PBX rings 101, who refuses."""
    client = lab.client()
    await lab.click_to_call(101, client.number)
    await lab.phone(101).rejects(486)
    await lab.quiet()


@scene
async def freepbx_in_answered(lab: Lab) -> None:
    """201 answers a client in a FreePBX-style dialplan, recorded."""
    client = lab.client()
    await client.calls("4958881201", trunk="trunk2")
    await lab.phone(201).answers()
    await client.talks(to=lab.phone(201))
    await over(lab, client)


@scene
async def freepbx_in_offline(lab: Lab) -> None:
    """201 is not registered: FreePBX does not even dial."""
    client = lab.client()
    await lab.phone(201).goes_offline()
    await client.calls("4958880201", trunk="trunk2")
    await client.is_hung_up()
    await lab.quiet()


@scene
async def freepbx_out_answered(lab: Lab) -> None:
    """201 calls a client in a FreePBX-style dialplan."""
    client = lab.client()
    await lab.phone(201).calls(f"9{client.number}")
    await client.answers()
    await lab.phone(201).talks(to=client)
    await lab.phone(201).hangs_up()
    await lab.quiet()


@scene
async def freepbx_out_by_the_second_trunk(lab: Lab) -> None:
    """201 calls a client; the first trunk is congested, the second gets through."""
    client = lab.client()
    await lab.phone(201).calls(client.number)
    await client.rejects(503)
    await client.answers()
    await lab.phone(201).talks(to=client)
    await over(lab, client)


@scene
async def freepbx_group(lab: Lab) -> None:
    """201, 202, 203 ring in one Dial; 203 answers."""
    await queue(lab, "4958880600", 201, 202, 203)


@scene
async def freepbx_group_of_local_channels(lab: Lab) -> None:
    """201, 202, 203 ring through Local channels, recorded; 202 answers."""
    await queue(lab, "4958880601", 201, 203, 202)


@scene
async def freepbx_queue(lab: Lab) -> None:
    """A recorded queue of 201, 202, 203; 201 answers."""
    await queue(lab, "4958880750", 203, 202, 201)


@scene
async def freepbx_follow_me(lab: Lab) -> None:
    """204 and its owner's mobile phone ring; the mobile answers."""
    client, mobile = lab.client(), lab.client("+79990000204")
    await client.calls("4958880650")
    await lab.phone(204).rings()
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene
async def freepbx_menu(lab: Lab) -> None:
    """The client presses 2 in the menu; 202 of the ring group answers."""
    client = lab.client()
    await client.calls("4958880800")
    await client.is_answered()
    await client.presses("2")
    await lab.phone(202).answers()
    await client.talks(to=lab.phone(202))
    await over(lab, client)


@scene
async def freepbx_transfer_attended(lab: Lab) -> None:
    """201 consults 202 with *2 and hangs up."""
    client = lab.client()
    await client.calls("4958880201")
    await lab.phone(201).answers()
    await lab.phone(201).consults_by_code("202")
    await lab.phone(202).answers()
    await lab.phone(201).talks(to=lab.phone(202))
    await lab.phone(201).hangs_up()
    await client.talks(to=lab.phone(202))
    await over(lab, client)


@scene
async def freepbx_pickup(lab: Lab) -> None:
    """201 rings; 202 dials **201 and has the call."""
    client = lab.client()
    await client.calls("4958880201")
    await lab.phone(201).rings()
    await lab.phone(202).calls("**201")
    await lab.phone(201).is_hung_up()
    await client.talks()
    await over(lab, client)
