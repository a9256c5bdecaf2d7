"""Calls as they come, in and out: answered, missed, refused; to a phone, to a mobile, to nobody."""

from __future__ import annotations

from tests.lab.scenes.catalogue import over, scene
from tests.lab.stage import Lab
from tests.lab.truth import (
    BUSY,
    CLIENT,
    CONGESTION,
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
    unknown,
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


@scene(incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101, lasts=(2, 3)))
async def in_two_seconds(lab: Lab) -> None:
    """101 answers after two seconds of ringing and talks for two more."""
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await lab.passes(2)
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await lab.passes(2)
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT", CONGESTION, user=101))
async def out_congested(lab: Lab) -> None:
    """101 calls a client; the only trunk is congested."""
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rejects(503)
    await lab.phone(101).is_hung_up()
    await lab.quiet()


@scene(outgoing("+79998600404", "", UNREACHABLE, user=101))
async def out_by_trunk_that_is_down(lab: Lab) -> None:
    """101 calls a client by a trunk that Asterisk does not even try."""
    await lab.phone(101).calls("+79998600404")
    await lab.phone(101).is_hung_up()
    await lab.quiet()


@scene(internal("102+", TALKED, last="102", user=102))
async def mobile_calls_in(lab: Lab) -> None:
    """The owner of 101 calls 102 from his mobile phone, by the trunk."""
    mobile = lab.client("+79990000101")
    await mobile.calls("4957770102")
    await lab.phone(102).answers()
    await mobile.talks(to=lab.phone(102))
    await over(lab, mobile)


@scene(incoming(CLIENT, "4957770403", "103 +79990000103+", TALKED, last="+79990000103"))
async def mobile_that_nobody_knows_of(lab: Lab) -> None:
    """103 does not answer; its owner's mobile phone does, which is nowhere said to be an employee's."""
    client, mobile = lab.client(), lab.client("+79990000103")
    await client.calls("4957770403")
    await lab.phone(103).rings()
    await mobile.answers()
    await client.talks(to=mobile)
    await over(lab, client)


@scene(unknown(CLIENT, "4957770860", "+79998600860+", TALKED, last="+79998600860"))
async def transit(lab: Lab) -> None:
    """A call from one trunk to the other: the office has no part in it."""
    client, far = lab.client(), lab.client("+79998600860")
    await client.calls("4957770860")
    await far.answers()
    await client.talks(to=far)
    await over(lab, client)


@scene(incoming(CLIENT, "4957770107", "107+", TALKED, last="107", user=107), versions=("16",))
async def in_to_chan_sip(lab: Lab) -> None:
    """A phone of the old channel driver answers."""
    client = lab.client()
    await client.calls("4957770107")
    await lab.phone(107).answers()
    await client.talks()
    await over(lab, client)


@scene(outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=107), versions=("16",))
async def out_from_chan_sip(lab: Lab) -> None:
    """A phone of the old channel driver calls a client."""
    client = lab.client()
    await lab.phone(107).calls(client.number)
    await client.answers()
    await client.talks()
    await over(lab, client)
