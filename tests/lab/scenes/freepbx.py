"""The same kinds of call through a dialplan of FreePBX's shape."""

from __future__ import annotations

from tests.lab.scenes.catalogue import all_ring_the_last_answers, over, scene
from tests.lab.stage import Lab
from tests.lab.truth import BUSY, CLIENT, CONGESTION, LEFT_MESSAGE, NO_ANSWER, TALKED, UNREACHABLE, incoming, outgoing


@scene(incoming(CLIENT, "4958881201", "201+", TALKED, last="201", user=201, recorded=True))
async def freepbx_in_answered(lab: Lab) -> None:
    """201 answers a client in a FreePBX-style dialplan, recorded."""
    client = lab.client()
    await client.calls("4958881201", trunk="trunk2")
    await lab.phone(201).answers()
    await client.talks(to=lab.phone(201))
    await over(lab, client)


@scene(incoming(CLIENT, "4958880201", "", UNREACHABLE))
async def freepbx_in_offline(lab: Lab) -> None:
    """201 is not registered: FreePBX does not even dial."""
    client = lab.client()
    await lab.phone(201).goes_offline()
    await client.calls("4958880201", trunk="trunk2")
    await client.is_hung_up()
    await lab.quiet()


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=201, recorded=True))
async def freepbx_out_answered(lab: Lab) -> None:
    """201 calls a client in a FreePBX-style dialplan."""
    client = lab.client()
    await lab.phone(201).calls(f"9{client.number}")
    await client.answers()
    await lab.phone(201).talks(to=client)
    await lab.phone(201).hangs_up()
    await lab.quiet()


@scene(outgoing(CLIENT, "CLIENT CLIENT+", TALKED, last=CLIENT, user=201, recorded=True))
async def freepbx_out_by_the_second_trunk(lab: Lab) -> None:
    """201 calls a client; the first trunk is congested, the second gets through."""
    client = lab.client()
    await lab.phone(201).calls(client.number)
    await client.rejects(503)
    await client.answers()
    await lab.phone(201).talks(to=client)
    await over(lab, client)


@scene(incoming(CLIENT, "4958880600", "201 202 203+", TALKED, last="203", user=203))
async def freepbx_group(lab: Lab) -> None:
    """201, 202, 203 ring in one Dial; 203 answers."""
    await all_ring_the_last_answers(lab, "4958880600", 201, 202, 203)


@scene(incoming(CLIENT, "4958880601", "201 202+ 203", TALKED, last="202", user=202, recorded=True))
async def freepbx_group_of_local_channels(lab: Lab) -> None:
    """201, 202, 203 ring through Local channels, recorded; 202 answers."""
    await all_ring_the_last_answers(lab, "4958880601", 201, 203, 202)


@scene(incoming(CLIENT, "4958880750", "201+ 202 203", TALKED, last="201", user=201, recorded=True))
async def freepbx_queue(lab: Lab) -> None:
    """A recorded queue of 201, 202, 203; 201 answers."""
    await all_ring_the_last_answers(lab, "4958880750", 203, 202, 201)


@scene(incoming(CLIENT, "4958880650", "204 +79990000204+", TALKED, last="+79990000204", user=204))
async def freepbx_follow_me(lab: Lab) -> None:
    """204 and its owner's mobile phone ring; the mobile answers."""
    client, mobile = lab.client(), lab.client("+79990000204")
    await client.calls("4958880650")
    await lab.phone(204).rings()
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene(incoming(CLIENT, "4958880800", "201 202+ 203", TALKED, last="202", user=202))
async def freepbx_menu(lab: Lab) -> None:
    """The client presses 2 in the menu; 202 of the ring group answers."""
    client = lab.client()
    await client.calls("4958880800")
    await client.is_answered()
    await client.presses("2")
    await lab.phone(202).answers()
    await client.talks(to=lab.phone(202))
    await over(lab, client)


@scene(incoming(CLIENT, "4958880201", "201+ 202+", TALKED, last="202", user=202))
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


@scene(incoming(CLIENT, "4958880201", "201 202+", TALKED, last="202", user=202))
async def freepbx_pickup(lab: Lab) -> None:
    """201 rings; 202 dials **201 and has the call."""
    client = lab.client()
    await client.calls("4958880201")
    await lab.phone(201).rings()
    await lab.phone(202).calls("**201")
    await lab.phone(201).is_hung_up()
    await client.talks()
    await over(lab, client)


@scene(incoming(CLIENT, "4958880201", "201", BUSY, user=201))
async def freepbx_in_busy(lab: Lab) -> None:
    """201 refuses with 486; FreePBX plays the busy tone."""
    client = lab.client()
    await client.calls("4958880201")
    await lab.phone(201).rejects(486)
    await client.is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4958880206", "206", NO_ANSWER, user=206))
async def freepbx_voicemail_without_message(lab: Lab) -> None:
    """206 does not answer; the client hangs up before the mailbox's tone."""
    client = lab.client()
    await client.calls("4958880206")
    await lab.phone(206).rings()
    await client.is_answered()
    await lab.seen.event("Newexten", within=5, Application="VoiceMail")
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT", BUSY, user=201))
async def freepbx_out_busy(lab: Lab) -> None:
    """201 calls a client who is busy."""
    client = lab.client()
    await lab.phone(201).calls(client.number)
    await client.rejects(486)
    await lab.phone(201).is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4958881201", "201+ 202+", TALKED, last="202", user=202, recorded=True))
async def freepbx_transfer_blind(lab: Lab) -> None:
    """201 sends a recorded client to 202 by REFER."""
    client = lab.client()
    await client.calls("4958881201")
    await lab.phone(201).answers()
    await lab.phone(201).transfers("202")
    await lab.phone(202).answers()
    await client.talks(to=lab.phone(202))
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=201, recorded=True))
async def freepbx_click_to_call(lab: Lab) -> None:
    """The PBX rings 201, then calls the client that 201 asked for."""
    client = lab.client()
    await lab.click_to_call(201, client.number, context="from-internal-freepbx")
    await lab.phone(201).answers()
    await client.answers()
    await client.talks(to=lab.phone(201))
    await over(lab, client)


@scene(incoming(CLIENT, "4958880600", "201 202 203 204+", TALKED, last="204", user=204))
async def freepbx_pickup_from_group(lab: Lab) -> None:
    """201, 202, 203 ring as a group; 204 dials *8 and has the call."""
    client = lab.client()
    await client.calls("4958880600")
    for extension in (201, 202, 203):
        await lab.phone(extension).rings()
    await lab.phone(204).calls("*8")
    await lab.phone(201).is_hung_up()
    await client.talks(to=lab.phone(204))
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT CLIENT", CONGESTION, user=201))
async def freepbx_out_all_trunks_congested(lab: Lab) -> None:
    """201 calls a client; both trunks are congested."""
    client = lab.client()
    await lab.phone(201).calls(client.number)
    for _ in range(2):
        await client.rejects(503)
    await lab.phone(201).is_hung_up()
    await lab.quiet()


@scene(incoming(CLIENT, "4958880206", "206", LEFT_MESSAGE, user=206))
async def freepbx_voicemail_with_message(lab: Lab) -> None:
    """206 does not answer; the client speaks to the mailbox for two seconds."""
    client = lab.client()
    await client.calls("4958880206")
    await lab.phone(206).rings()
    await lab.speaks_to_mailbox(206)
    await over(lab, client)
