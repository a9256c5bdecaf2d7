"""The timeline of a call: what happened on the PBX, and what was decided and written for it, in one order.

What happened is the tracker's own account, from the row, or from the journal replayed by the same rules. What was
decided is the chronicle's. A line that is not known here by its name is shown with its facts all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from itgrix_kommo.calls.call import Call, CallType
from itgrix_kommo.pipeline.telling import UNTOLD, Moment, Source, clock, told
from itgrix_kommo.storage.chronicle import Line
from itgrix_kommo.storage.registrations import UNFINISHED, Registration, State
from itgrix_kommo.storage.standing import UNHEARD


def timeline(call: Call | None, lines: Iterable[Line], registration: Registration | None = None) -> list[Moment]:
    """All that is known of a call, in its order. Of what is everybody's, that is shown which came while it waited."""
    lines = list(lines)
    own = [line.at for line in lines if line.call_id]
    is_over = registration is None or registration.state not in UNFINISHED
    begins, ends = min(own, default=0.0), max(own, default=0.0) if is_over else float("inf")
    moments = [Moment(note.at, Source.PBX, note.text) for note in (call.timeline if call else ())]
    moments += [
        told(line) for line in lines if line.event not in UNTOLD and (line.call_id or begins <= line.at <= ends)
    ]
    if registration is not None:
        moments.append(Moment(registration.created_at, Source.DAEMON, f"registration {registration.id} is in line"))
    # Of one instant, what the PBX did comes before what we made of it.
    return sorted(moments, key=lambda one: (one.at, one.source is not Source.PBX))


def remedy(
    registration: Registration | None, lines: Sequence[Line], *, behind: int | None, call: Call | None, runs: bool
) -> str:
    """What a person can do now, or why there is nothing to do; `runs` tells whether the daemon does."""
    if registration is None:
        return _unregistered(call)
    match registration.state:
        case State.DONE:
            return "it is in Kommo: nothing to do"
        case State.FAILED:
            return f"mend what it names, then: itgrix-kommo registrations retry {registration.id}"
        case State.SKIPPED:
            return _skipped(registration.reason)
        case State.WAITING:
            return _waiting(registration, lines, behind, runs=runs)
        case State.HANDED:
            # Whether or not this one's daemon runs.
            return _stopped(lines) or _handed(registration)


def _handed(registration: Registration) -> str:
    if registration.reason == UNHEARD:
        return "set storage.shared_url again, and start the daemon: it hears what became of it"
    return "it is in the nodes' database: one of them sees to it by itself"


def _waiting(registration: Registration, lines: Sequence[Line], behind: int | None, *, runs: bool) -> str:
    if not runs:
        return "the daemon does not run: systemctl start itgrix_amo"
    if stopped := _stopped(lines):
        return stopped
    if behind is not None:
        return f"it waits its turn behind registration {behind} of the same client"
    if registration.reason:
        return f"it is tried again at {clock(registration.due_at)} by itself"
    return "it is taken up by itself within moments"


def _unregistered(call: Call | None) -> str:
    if call is None or call.outcome is None:
        return "it goes on; what becomes of it is decided when it has ended"
    if call.type is CallType.LOCAL:
        return "calls between employees stay out of Kommo; is one side a client: numbers.internal_max_length, employees"
    if call.type is CallType.UNKNOWN:
        return "neither side is an employee: look at employees and numbers.trunks"
    return "it has no registration: it was cleaned away (storage.retention_days), or erased"


def _skipped(reason: str) -> str:
    for words, what in _SKIPS.items():
        if words in reason:
            return what
    return "nothing to do, unless it should have been registered: then mend what the reason names"


_SKIPS = {
    "blacklist": "numbers.blacklist keeps it out; later calls come in once its entry is taken away",
    "whitelist": "numbers.whitelist lets only others in; add the number for later calls",
    "at the other end": "nothing to do: it is registered by the PBX that the client is at",
    "need_registration": "the customization need_registration decided so: itgrix-kommo hooks try need_registration",
    "cancelled": "a customization cancelled it: itgrix-kommo hooks list shows which there are",
    "hidden": "who hides his number can't be registered, unless process_client_phone names him",
    "no entity": "business.create_contacts is off, and Kommo does not know the client",
}


ACCOUNT = ("account_in_order", "account_problem", "registering_stopped")
"""What tells whether anything can be registered."""


def _stopped(lines: Sequence[Line]) -> str:
    """That registering was stopped and not mended since, in the words of then; empty where it goes on."""
    words = ""
    for line in lines:
        if line.event == "account_in_order":
            words = ""
        elif line.event == "registering_stopped":
            words = str(line.facts.get("error", ""))
        elif line.event == "account_problem" and line.facts.get("stops"):
            words = f"{line.facts.get('words', '')}: {line.facts.get('remedy', '')}"
    return words and f"nothing is registered at present: {words}"
