"""Every scene's rows in the CEL table become the calls that its truth tells of, as AMI's events do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.calls.call import Call
from itgrix_kommo.calls.cel import calls_of
from itgrix_kommo.calls.cel_lines import CdrRow, CelRow, dial_string
from tests.cel_scenes import KEPT, Heard, Remembered, read
from tests.lab.scenes import SCENES
from tests.lab.truth import BUSY, CLIENT, GAVE_UP, NO_ANSWER, TALKED, Truth, office, told

FILES = sorted(KEPT.glob("*/*.json"))
MOST_BYTES = 4_000_000

UNRECORDED = {"recorded_out", "freepbx_transfer_blind"}
"""Recorded calls whose file the dialplan told AMI alone: CDR(recordingfile) was not set, or lost by the transfer."""

LEFT_A_MESSAGE = {
    "voicemail_with_message": NO_ANSWER,
    "freepbx_voicemail_with_message": NO_ANSWER,
    "busy_then_voicemail": BUSY,
    "voicemail_at_once": GAVE_UP,
}
"""Whether a message was left, only VMSTATUS tells, a variable: for CEL these calls were missed."""

OTHERWISE: dict[str, dict[str, Any]] = {
    "did_told_by_variable": {"did": "101"},  # FROM_DID is a variable, and this dialplan sets no CDR(did)
    "name_in_windows_1251": {"name": "\N{REPLACEMENT CHARACTER}" * 4},  # SQLite kept what is no UTF-8
    "16/menu_ends": {"ivr": False},  # this version tells of no sound that is played
}

UNKNOWN_WITHOUT_EXTRA = {
    "forwarded_to_outside_by_302", "transfer_blind_to_outside", "parking_by_code", "parking_by_refer",
    "transfer_attended_by_refer", "client_leaves_during_consultation", "consulted_one_leaves", "pickup_of_a_colleague",
    "queue_with_agent",
}  # fmt: skip
"""Who sent the call on, and who meets whom after parking or consulting, stands in `extra` alone."""


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def understood(
    scene: Remembered, rows: Sequence[CelRow] | None = None, records: Sequence[CdrRow] | None = None
) -> list[Call]:
    return calls_of(rows or scene.cel_rows(), scene.cdr_rows() if records is None else records, office())


def truths_of(path: Path) -> list[Truth]:
    """The scene's truths, but for what the tables do not keep."""
    name = path.stem
    changes = OTHERWISE.get(name, {}) | OTHERWISE.get(named(path), {})
    if name in LEFT_A_MESSAGE:
        changes = {**changes, "ending": LEFT_A_MESSAGE[name]}
    truths = SCENES[name].truths
    return [replace(truth, **changes, recorded=truth.recorded and name not in UNRECORDED) for truth in truths]


@pytest.mark.parametrize("version", ["22", "16"])
def test_every_scene_is_remembered(version: str) -> None:
    of_version = {scene.name for scene in SCENES.values() if version in scene.versions}
    assert {path.stem for path in FILES if path.parent.name == version} == of_version


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < MOST_BYTES


@pytest.mark.parametrize("path", FILES, ids=named)
class TestEveryScene:
    def test_becomes_the_truth(self, path: Path) -> None:
        scene, truths = read(path), truths_of(path)
        assert told(understood(scene), scene.clients, truths) == truths

    def test_becomes_the_truth_from_whole_seconds(self, path: Path) -> None:
        """As FreePBX's tables keep them: the order of writing tells what came first."""
        scene, truths = read(path), truths_of(path)
        rows = [row._replace(at=float(int(row.at))) for row in scene.cel_rows()]
        assert told(understood(scene, rows), scene.clients, truths) == truths

    def test_is_the_same_call_at_the_same_time_as_ami_told(self, path: Path) -> None:
        scene = read(path)
        remembered = [Heard.of(call) for call in understood(scene)]
        assert len(remembered) == len(scene.heard)
        for live, past in zip(scene.heard, remembered, strict=True):
            assert past.id == live.id
            assert set(past.aliases) == set(live.aliases)
            assert past.started_at == pytest.approx(live.started_at, abs=1.0)
            assert past.ended_at == pytest.approx(live.ended_at, abs=1.0)
            assert (past.talk is None) == (live.talk is None)
            if past.talk and live.talk:
                assert past.talk == pytest.approx(live.talk, abs=1.0)

    def test_without_extra_who_talked_is_known_and_who_missed(self, path: Path) -> None:
        scene = read(path)
        rows = [row._replace(extra=None) for row in scene.cel_rows()]
        calls = told(understood(scene, rows), scene.clients, truths_of(path))
        if path.stem in UNKNOWN_WITHOUT_EXTRA:
            assert CLIENT in {one.client for one in calls} or not any(truth.client for truth in truths_of(path))
            assert {one.ending for one in calls} <= {TALKED, NO_ANSWER}
            return
        assert calls == [
            truth if truth.ending == TALKED else replace(truth, ending=calls[place].ending)
            for place, truth in enumerate(truths_of(path))
        ]
        assert {one.ending for one in calls} <= {TALKED, NO_ANSWER}


class TestWithoutCallRecords:
    """CEL alone: the dial strings of unanswered calls, the menu of old versions and the recordings are unknown."""

    UNKNOWN = frozenset({
        "click_to_call_not_answered", "click_to_call_given_up", "freepbx_out_busy", "freepbx_in_offline",
        "menu_abandoned", "menu_again_then_abandoned",
    })  # fmt: skip

    @pytest.mark.parametrize("path", FILES, ids=named)
    def test_becomes_the_truth(self, path: Path) -> None:
        scene = read(path)
        truths = [replace(truth, recorded=False) for truth in truths_of(path)]
        found = told(understood(scene, records=[]), scene.clients, truths)
        if path.stem in self.UNKNOWN:
            assert len(found) == len(truths)
            assert all(one.ending != TALKED for one in found)
        else:
            assert found == truths


class TestBrokenRows:
    ROWS = read(KEPT / "22" / "in_answered.json").cel_rows()

    def test_a_call_whose_end_was_never_written_ends_with_its_last_row(self) -> None:
        rows = [row for row in self.ROWS if row.event not in {"HANGUP", "CHAN_END", "LINKEDID_END", "BRIDGE_EXIT"}]
        (call,) = calls_of(rows, [], office())
        assert call.was_answered
        assert call.ended_at == pytest.approx(rows[-1].at, abs=0.01)

    def test_a_call_whose_beginning_was_deleted_is_told_from_what_is_left(self) -> None:
        rows = [row for row in self.ROWS if row.event != "CHAN_START"]
        (call,) = calls_of(rows, [], office())
        assert call.was_answered
        assert call.responsible is not None
        assert call.responsible.id == 101

    @pytest.mark.parametrize("extra", ["[1]", '{"hangupcause": "seventeen", "hangupsource": 5, "bridge_id": null}'])
    def test_what_extra_should_not_hold(self, extra: str) -> None:
        told_nothing = json.loads(extra) if extra.startswith("{") else {}
        rows = [row._replace(extra=told_nothing) for row in self.ROWS]
        (call,) = calls_of(rows, [], office())
        assert call.was_answered

    def test_a_row_alone(self) -> None:
        for row in self.ROWS:
            assert len(calls_of([row], [], office())) == 1


class TestDialStrings:
    @pytest.mark.parametrize(
        ("app_data", "channel", "found"),
        [
            ("PJSIP/101,20,tT", "PJSIP/101-00000001", "101"),
            ("PJSIP/101&PJSIP/79990000001@trunk,20", "PJSIP/trunk-00000002", "79990000001@trunk"),
            ("SIP/trunk/79990000001", "SIP/trunk-00000003", "trunk/79990000001"),
            ("PJSIP/201/sip:201@127.0.0.1:14011,20", "PJSIP/201-00000001", ""),
            ("", "PJSIP/101-00000001", ""),
        ],
    )
    def test_names_the_part_that_rang_the_channel(self, app_data: str, channel: str, found: str) -> None:
        assert dial_string(app_data, channel) == found
