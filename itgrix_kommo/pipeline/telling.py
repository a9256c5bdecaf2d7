"""How each line of the chronicle is told to a person: by whom it is, and in which words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from itgrix_kommo.storage.chronicle import Line

LONGEST = 400
"""Characters of a body or payload in one line; `--json` gives the whole."""

Facts: TypeAlias = Mapping[str, Any]


class Source(StrEnum):
    """Who did or said it."""

    PBX = "pbx"
    DAEMON = "daemon"
    HOOK = "hook"
    KOMMO = "kommo"


class Moment(NamedTuple):
    """`at` is Unix seconds; `level` as in the log; `facts` are the line's own, in JSON's types."""

    at: float
    source: Source
    text: str
    level: str = "info"
    facts: Facts = MappingProxyType({})


UNTOLD = frozenset({"hook_called"})
"""What another line tells already; `hook_called` is the trace's whole payload, for those who ask for it."""


def told(line: Line) -> Moment:
    facts = without_links(line.facts)
    known = KNOWN.get(line.event)
    if known is None:
        return Moment(line.at, Source.DAEMON, f"{line.event.replace('_', ' ')}{_listed(facts)}", line.level, facts)
    source, words = known
    try:
        text = words(facts) if callable(words) else words.format_map(facts)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, OSError):
        text = f"{line.event.replace('_', ' ')}{_listed(facts)}"
    return Moment(line.at, source, text, line.level, facts)


def traced(lines: Iterable[Line]) -> list[Moment]:
    """What customizations were given and answered, where `customizations.trace` had it kept."""
    return [
        Moment(line.at, Source.HOOK, f"{line.facts.get('hook', '')} traced", line.level, without_links(line.facts))
        for line in lines
        if line.event == "hook_called"
    ]


def without_links(value: Any) -> Any:
    """The same without links to recordings: who has one may listen."""
    if isinstance(value, Mapping):
        return {key: "(a link)" if key == "link" and inner else without_links(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_links(inner) for inner in value]
    return value


def _listed(facts: Facts) -> str:
    shown = {key: value for key, value in facts.items() if key not in {"logger", "timestamp"}}
    return f": {short(shown)}" if shown else ""


def short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S}"


def _answered(facts: Facts) -> str:
    changed = facts["changed"]
    if facts["hook"] == "need_registration":
        said = "yes" if changed.get("result") else "no"
    else:
        said = f"changed {short(changed)}" if changed else "changed nothing"
    return f"{facts['hook']} answered in {facts['seconds']} s: {said}"


def _request(facts: Facts) -> str:
    answer = facts["fault"] or f"{facts['status']} after {facts['ms']} ms"
    return f"{facts['method']} {facts['path']}: {answer}"


def _found(facts: Facts) -> str:
    leads = facts["open_leads"]
    open_leads = f"open leads {', '.join(map(str, leads))}" if leads else "no open lead"
    return f"the client is {facts['on']}, {open_leads}{'' if facts['is_sole'] else '; others have his number, too'}"


def _popup_missing(facts: Facts) -> str:
    users = ", ".join(map(str, facts["users"]))
    return f"no pop-up{f' for user {users}' if users else ''}: {facts['reason']}"


def _closed(facts: Facts) -> str:
    return f"the registration is {facts['state']}{f': {reason}' if (reason := facts['reason']) else ''}"


def _recording(facts: Facts) -> str:
    return f"the recording {'has its link' if facts['has_link'] else 'has no link'}: {facts['words']}"


KNOWN: dict[str, tuple[Source, str | Callable[[Facts], str]]] = {
    "account_in_order": (Source.KOMMO, "the account is in order: registering goes on"),
    "account_problem": (Source.KOMMO, "{what}: {words}: {remedy}"),
    "call_ended": (Source.DAEMON, "the call is over: {type}, {outcome}, {duration_s} s"),
    "call_from_history": (Source.DAEMON, "read back from the PBX's CEL"),
    "call_not_kept": (Source.DAEMON, "it can't become a row: {error}: it is held in memory and tried again"),
    "call_not_matched": (Source.KOMMO, "Kommo's own matching does not find {on}: the call goes there as a note"),
    "call_not_registered": (Source.DAEMON, "it is not registered: {reason}"),
    "call_registered": (Source.KOMMO, "the call is written: note {note_id} on {on}"),
    "calls_unheard": (Source.DAEMON, "nobody listened for a while: {remedy}"),
    "card_updated": (Source.KOMMO, "{on} is updated"),
    "client_found": (Source.KOMMO, _found),
    "client_unknown": (Source.KOMMO, "nobody has the number"),
    "configuration_reloaded": (
        Source.DAEMON,
        lambda facts: f"the configuration was changed: {', '.join(facts['changed']) or 'nothing that is used at once'}",
    ),
    "contact_created": (Source.KOMMO, "contact {contact_id} is created"),
    "hook_answered": (Source.HOOK, _answered),
    "hook_cancelled": (Source.HOOK, "{hook}: {meaning}"),
    "hook_failed": (Source.HOOK, "{hook} ({file}) failed: {error}; {consequence}"),
    "hook_printed": (Source.HOOK, "{hook} printed: {text}"),
    "kommo_request": (Source.KOMMO, _request),
    "lead_created": (Source.KOMMO, "lead {lead_id} is created"),
    "popup_not_shown": (Source.DAEMON, _popup_missing),
    "popup_shown": (Source.KOMMO, lambda facts: f"the pop-up is shown to user {', '.join(map(str, facts['users']))}"),
    "recording_linked": (Source.KOMMO, "the recording's link is added to note {note_id}"),
    "recording_none": (Source.DAEMON, "the conversation was not recorded"),
    "recording_not_ready": (Source.DAEMON, "the recording is not ready within {within_s:g} s: its link follows later"),
    "recording_prepared": (Source.DAEMON, _recording),
    "registering_stopped": (Source.KOMMO, "registering stops: {error}"),
    "registration_begun": (Source.DAEMON, "the registration is taken up, attempt {attempt}"),
    "registration_closed": (Source.DAEMON, _closed),
    "registration_failed": (Source.KOMMO, "failed: {error}"),
    "registration_not_saved": (Source.DAEMON, "the database fails: {error}: tried again"),
    "registration_postponed": (Source.DAEMON, "put off for {pause_s} s: {reason}"),
    "registration_settles": (
        Source.DAEMON,
        lambda facts: f"what may have been written is looked for at {clock(facts['until'])}",
    ),
    "stage": (Source.DAEMON, lambda facts: f"stage {facts['stage']} {facts['conversation']}".rstrip()),
    "starting": (Source.DAEMON, "the daemon starts"),
    "step_decided": (Source.DAEMON, "{note}"),
    "stopped": (Source.DAEMON, "the daemon stops"),
    "task_created": (Source.KOMMO, "task {task_id} is created on {on}"),
    "tasks_completed": (
        Source.KOMMO,
        lambda facts: f"tasks {', '.join(map(str, facts['task_ids']))} are completed: the client was reached",
    ),
    "unsorted_created": (Source.KOMMO, "incoming lead {uid} is created (lead {lead_id})"),
    "user_refused": (Source.KOMMO, "Kommo refuses the user: {words}: {remedy}"),
    "writing": (Source.KOMMO, lambda facts: f"writing the {facts['what']}: {short(facts['body'])}"),
    "written_before": (Source.KOMMO, "the {what} of an earlier attempt is found: {id}"),
}
"""By whom an event is, and its words: a template of its facts, or what makes them."""
