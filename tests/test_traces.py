"""Every golden trace becomes the calls that its scene's truth tells of."""

from __future__ import annotations

from pathlib import Path

import pytest

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.storage.trace import Recorded, read_trace
from tests.lab.golden import GOLDEN, prune, read_golden
from tests.lab.scenes import SCENES
from tests.lab.truth import told, understood

VERSIONS = ("22", "16")
TRACES = sorted(GOLDEN.glob("*/*.trace"))
MOST_BYTES = 2_000_000


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", TRACES, ids=named)
def test_becomes_the_truth(path: Path) -> None:
    golden, truths = read_golden(path), SCENES[path.stem].truths
    assert told(understood(golden.events), golden.clients, truths) == list(truths)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_scene_has_a_truth_and_a_trace(version: str) -> None:
    of_version = {scene.name for scene in SCENES.values() if version in scene.versions and scene.truths}
    assert {path.stem for path in TRACES if path.parent.name == version} == of_version
    assert {scene.name for scene in SCENES.values() if not scene.truths} == set()


def test_traces_are_small_and_of_no_machine() -> None:
    texts = {path: path.read_bytes() for path in TRACES}
    assert sum(map(len, texts.values())) < MOST_BYTES
    assert not [path for path, text in texts.items() if b"/lab/pbx-" in text or b"/root/" in text]


@pytest.mark.parametrize("path", TRACES, ids=named)
def test_is_pruned(path: Path) -> None:
    """And pruning twice is pruning once, so a trace is as its recording would be."""
    recorded = list(read_trace(path))
    assert list(prune(recorded)) == recorded


def test_pruning_changes_no_event() -> None:
    frame = (
        b"Event: Hangup\r\nPrivilege: call,all\r\nChannel: PJSIP/101-1\r\nChannelState: 6\r\nChannelStateDesc: Up\r\n"
        b"CallerIDNum: <unknown>\r\nContext: lab\r\nUniqueid: 1.2\r\nLinkedid: 1.1\r\nCause: 16\r\n"
        b"Cause-txt: Normal Clearing"
    )
    unheard = b"Event: RTCPSent\r\nChannel: PJSIP/101-1"
    (pruned,) = prune([Recorded(5.0, frame), Recorded(6.0, unheard)])
    kept = b"Event: Hangup\r\nChannel: PJSIP/101-1\r\nChannelState: 6\r\nUniqueid: 1.2\r\nLinkedid: 1.1\r\nCause: 16"
    assert pruned == Recorded(5.0, kept)
    assert decode(pruned.frame, 5.0) == decode(frame.replace(b"\r\nContext: lab", b""), 5.0)
