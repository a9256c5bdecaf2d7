"""The timeline: every line of the chronicle in words, in one order, with what a person can do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.calls.call import Note
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.pipeline.telling import KNOWN, Source, told, without_links
from itgrix_kommo.pipeline.timeline import ACCOUNT, remedy, timeline
from itgrix_kommo.storage.chronicle import EVERYBODYS, Line
from itgrix_kommo.storage.registrations import Registration, State
from tests.story import T0, ended, inbound, internal, plan

PACKAGE = Path(__file__).parents[1] / "itgrix_kommo"


def line(event: str, at: float = T0, call_id: str = "1.1", level: str = "info", **facts: Any) -> Line:
    return Line(at, call_id, event, level, facts)


def row(state: State, reason: str = "", **more: Any) -> Registration:
    new = registration_of(ended(inbound()), plan())
    assert new is not None
    made = Registration(7, new.call_id, new.client, state, T0 + 90, 1, T0 + 40, new.call, {}, reason, "pbx1")
    return dataclasses.replace(made, **more)


class TestWords:
    def test_everything_that_is_told_is_said_somewhere(self) -> None:
        """A renamed event would go on in the log, and lose its words."""
        said = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if path.name != "telling.py")
        assert {event for event in {*KNOWN, *EVERYBODYS, *ACCOUNT} if not re.search(rf'\(\s*"{event}"', said)} == set()

    def test_a_line_that_nobody_foresaw_is_shown_with_its_facts(self) -> None:
        moment = told(line("moon_rose", phase="full", logger="itgrix_kommo.x"))
        assert (moment.source, moment.text) == (Source.DAEMON, 'moon rose: {"phase": "full"}')

    @pytest.mark.parametrize("event", sorted(KNOWN))
    def test_a_line_that_lacks_its_facts_is_shown_all_the_same(self, event: str) -> None:
        assert told(line(event, other=[1])).text

    def test_facts_that_make_no_sense_are_shown_all_the_same(self) -> None:
        assert "settles" in told(line("registration_settles", until=1e300)).text
        assert "popup" in told(line("popup_shown", users=5)).text

    def test_who_sees_a_link_may_listen(self) -> None:
        body = {"link": "https://pbx/recordings/x.mp3", "params": [{"link": "https://y"}], "phone": "+7"}
        assert without_links(body) == {"link": "(a link)", "params": [{"link": "(a link)"}], "phone": "+7"}
        assert "https://" not in told(line("writing", what="call", body=body)).text


class TestOrder:
    def test_what_the_pbx_did_comes_before_what_we_made_of_it(self) -> None:
        call = dataclasses.replace(ended(inbound()), timeline=(Note(T0, "rings"), Note(T0 + 30, "hangs up")))
        lines = [line("stage", T0, stage="conversation_requested", conversation=""), line("client_unknown", T0 + 41)]
        told_as = [moment.text for moment in timeline(call, lines, row(State.DONE))]
        assert told_as == [
            "rings", "stage conversation_requested", "hangs up", "registration 7 is in line", "nobody has the number",
        ]  # fmt: skip

    def test_what_is_everybodys_is_shown_while_the_call_waited_alone(self) -> None:
        lines = [
            line("registering_stopped", T0 - 60, "", error="401"),
            line("registration_begun", T0, attempt=1),
            line("registering_stopped", T0 + 1, "", error="402"),
            line("registration_closed", T0 + 9, state="done", reason=""),
            line("starting", T0 + 5000, ""),
        ]
        texts = [moment.text for moment in timeline(None, lines, row(State.DONE))]
        assert [text for text in texts if "stops" in text or "starts" in text] == ["registering stops: 402"]
        waiting = [moment.text for moment in timeline(None, lines, row(State.WAITING))]
        assert "the daemon starts" in waiting


class TestWhatToDo:
    @pytest.mark.parametrize(
        ("state", "reason", "words"),
        [
            (State.DONE, "", "it is in Kommo"),
            (State.FAILED, "Kommo refused the lead", "registrations retry 7"),
            (State.SKIPPED, "the blacklist names it: client +7", "numbers.blacklist"),
            (State.SKIPPED, "the whitelist does not name it", "numbers.whitelist"),
            (State.SKIPPED, "need_registration said no", "hooks try need_registration"),
            (State.SKIPPED, "the client's number is hidden: nobody", "process_client_phone"),
            (State.SKIPPED, "cancelled by customization: no contact", "hooks list"),
            (State.SKIPPED, "something new", "nothing to do, unless"),
            (State.WAITING, "Kommo is away", "tried again at "),
            (State.WAITING, "", "within moments"),
            (State.HANDED, "Kommo is away", "one of them sees to it by itself"),
        ],
    )
    def test_of_each_state(self, state: State, reason: str, words: str) -> None:
        assert words in remedy(row(state, reason), [], behind=None, call=None, runs=True)

    def test_who_waits_is_told_for_what(self) -> None:
        def said(*lines: Line, behind: int | None = None, runs: bool = True) -> str:
            return remedy(row(State.WAITING), lines, behind=behind, call=None, runs=runs)

        stopped = line("registering_stopped", call_id="", error="402: pay")
        problem = line("account_problem", call_id="", words="no PHONE field", remedy="add it", stops=True)
        passing = line("account_problem", call_id="", words="no pop-ups", remedy="-", stops=False)
        mended = line("account_in_order", call_id="")
        assert said(stopped) == "nothing is registered at present: 402: pay"
        assert said(stopped, mended, problem, passing) == "nothing is registered at present: no PHONE field: add it"
        assert said(stopped, mended, behind=3) == "it waits its turn behind registration 3 of the same client"
        assert said(stopped, runs=False) == "the daemon does not run: systemctl start itgrix_amo"
        handed = remedy(row(State.HANDED), [stopped], behind=None, call=None, runs=False)
        assert handed == "nothing is registered at present: 402: pay"

    def test_of_calls_without_a_row(self) -> None:
        assert "numbers.internal_max_length" in remedy(None, [], behind=None, call=ended(internal()), runs=True)
        assert "storage.retention_days" in remedy(None, [], behind=None, call=ended(inbound()), runs=True)
        assert "goes on" in remedy(None, [], behind=None, call=None, runs=True)
