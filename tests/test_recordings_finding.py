"""From what Asterisk names to a file inside the directories, and never to one outside."""

from __future__ import annotations

import os
import socket
from datetime import date
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.errors import RecordingUnusable
from itgrix_kommo.recordings.finding import Directories, partner, places

DAY = date(2026, 11, 22)
FREEPBX = "in-4957777777-79991234567-20261122-101500-1795344324.0.wav"


@pytest.fixture
def monitor(tmp_path: Path) -> Path:
    folder = tmp_path / "monitor"
    folder.mkdir()
    return folder


@pytest.fixture
def directories(monitor: Path) -> Directories:
    return Directories([monitor])


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"sound")
    return path


class TestNames:
    def test_an_absolute_path_is_taken_as_it_is(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "2026/11/22" / FREEPBX)
        put(monitor / FREEPBX)
        assert directories.find(str(path), DAY) == (path,)

    def test_a_relative_one_is_below_the_monitor_directory(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "2026/11/22" / FREEPBX)
        assert directories.find(f"2026/11/22/{FREEPBX}", DAY) == (path,)

    def test_a_bare_name_is_in_the_folder_of_the_date_in_it(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "2026/11/22" / FREEPBX)
        assert directories.find(FREEPBX, date(2020, 1, 1)) == (path,)

    @pytest.mark.parametrize("folder", ["2026/11/22", "2026/11/23", "2026/11/21", "."])
    def test_a_bare_name_without_date_is_looked_for_around_the_call(
        self, folder: str, directories: Directories, monitor: Path
    ) -> None:
        path = put(monitor / folder / "1795344324.0.wav")
        assert directories.find("1795344324.0.wav", DAY) == (path,)

    def test_digits_that_are_no_date_do_no_harm(self, directories: Directories) -> None:
        assert directories.find("out-20269999-20261345.wav", DAY) == ()

    def test_the_pbx_directory_may_be_elsewhere_here(self, monitor: Path) -> None:
        path = put(monitor / "2026/11/22" / FREEPBX)
        mapped = Directories(
            [monitor], {"/var/spool/asterisk": "/nowhere", "/var/spool/asterisk/monitor": str(monitor)}
        )
        assert mapped.find(f"/var/spool/asterisk/monitor/2026/11/22/{FREEPBX}", DAY) == (path,)

    def test_a_map_speaks_of_whole_folders(self, monitor: Path) -> None:
        (found, *_) = places("/var/spool/monitor2/a.wav", [monitor], {"/var/spool/monitor": "/mnt"}, DAY)
        assert found == PurePosixPath("/var/spool/monitor2/a.wav")

    def test_without_a_map_the_end_of_the_path_is_looked_for(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "2026/11/22" / FREEPBX)
        assert directories.find(f"/var/spool/asterisk/monitor/2026/11/22/{FREEPBX}", DAY) == (path,)

    def test_the_second_directory_is_searched_too(self, monitor: Path, tmp_path: Path) -> None:
        path = put(tmp_path / "archive/a.wav")
        assert Directories([monitor, tmp_path / "archive"]).find("a.wav", DAY) == (path,)

    @pytest.mark.parametrize(
        "name", ['it\'s "quoted".wav', "new\nline.wav", "звонок.wav", " .wav", "-rf.wav", "a b%d.wav"]
    )
    def test_odd_names_are_names(self, name: str, directories: Directories, monitor: Path) -> None:
        path = put(monitor / name)
        assert directories.find(name, DAY) == (path,)

    def test_a_directory_that_is_a_link_itself_is_fine(self, monitor: Path, tmp_path: Path) -> None:
        path = put(monitor / "a.wav")
        (tmp_path / "link").symlink_to(monitor)
        found = Directories([tmp_path / "link"]).find("a.wav", DAY)
        assert found == (path,)
        os.close(Directories([tmp_path / "link"]).open(path))


class TestOtherNames:
    def test_gsm_in_wav_is_named_wav49_and_called_WAV(self, directories: Directories, monitor: Path) -> None:  # noqa: N802 - the extension is
        path = put(monitor / "call.WAV")
        assert directories.find("call.wav49", DAY) == (path,)

    def test_what_the_dialplan_converted_is_found(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "2026/11/22/1795344324.0.mp3")
        assert directories.find("2026/11/22/1795344324.0.wav", DAY) == (path,)
        assert directories.find("1795344324.0", DAY) == (path,)

    def test_the_named_file_goes_before_the_converted_one(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "call.wav")
        put(monitor / "call.mp3")
        assert directories.find("call.wav", DAY) == (path,)

    @pytest.mark.parametrize("named", ["call.wav", "call-in.wav", "call-out.wav", "call"])
    def test_two_sides_are_two_files(self, named: str, directories: Directories, monitor: Path) -> None:
        pair = put(monitor / "call-in.wav"), put(monitor / "call-out.wav")
        assert directories.find(named, DAY) == pair

    @pytest.mark.parametrize("side", ["call-in.wav", "call-out.wav"])
    def test_one_side_alone_is_better_than_none(self, side: str, directories: Directories, monitor: Path) -> None:
        path = put(monitor / side)
        assert directories.find(side, DAY) == (path,)
        assert directories.find("call.wav", DAY) == (path,)

    def test_only_endings_tell_the_side(self) -> None:
        assert partner("in-4957777777-101.wav") is None
        assert partner("call-in") is None


class TestOutside:
    def test_what_is_not_there_is_not_there_yet(self, directories: Directories) -> None:
        assert directories.find("nothing.wav", DAY) == ()
        assert directories.find("/nowhere/at/all.wav", DAY) == ()
        assert directories.find("x" * 300 + ".wav", DAY) == ()
        assert directories.find("half \ud800.wav", DAY) == ()

    @pytest.mark.parametrize(
        ("named", "words"),
        [
            ("", "named no recording"),
            (".", "names no file"),
            ("/", "names no file"),
            ("../secret.wav", r"climbs out by '\.\.'"),
            ("2026/../../secret.wav", r"climbs out by '\.\.'"),
            ("a\0.wav", "NUL"),
            ("x" * 5000, "longer than 4096 bytes"),
        ],
    )
    def test_what_names_no_file_is_refused(self, named: str, words: str, directories: Directories) -> None:
        with pytest.raises(RecordingUnusable, match=words):
            directories.find(named, DAY)

    def test_a_path_outside_is_refused_with_the_remedy(self, directories: Directories, tmp_path: Path) -> None:
        outside = put(tmp_path / "secret.wav")
        with pytest.raises(RecordingUnusable, match=r"outside recordings\.directories .* recordings\.path_map"):
            directories.find(str(outside), DAY)
        with pytest.raises(RecordingUnusable, match="outside"):
            directories.admit(str(outside))
        with pytest.raises(RecordingUnusable, match="outside"):
            directories.open(outside)

    def test_a_link_out_of_the_tree_is_refused(self, directories: Directories, monitor: Path, tmp_path: Path) -> None:
        (monitor / "call.wav").symlink_to(put(tmp_path / "secret.wav"))
        (monitor / "folder").symlink_to(tmp_path)
        for named in ("call.wav", "folder/secret.wav"):
            with pytest.raises(RecordingUnusable, match="outside"):
                directories.find(named, DAY)

    def test_a_link_within_the_tree_is_followed(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "2026/real.wav")
        (monitor / "call.wav").symlink_to(path)
        assert directories.find("call.wav", DAY) == (path,)

    def test_links_in_a_ring_are_refused(self, directories: Directories, monitor: Path) -> None:
        (monitor / "a.wav").symlink_to(monitor / "b.wav")
        (monitor / "b.wav").symlink_to(monitor / "a.wav")
        with pytest.raises(RecordingUnusable, match=r"can't be read: Too many levels"):
            directories.find("a.wav", DAY)

    def test_only_files_are_recordings(self, directories: Directories, monitor: Path) -> None:
        (monitor / "folder.wav").mkdir()
        os.mkfifo(monitor / "fifo.wav")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(monitor / "socket.wav"))
        for kind in ("folder", "fifo", "socket"):
            with pytest.raises(RecordingUnusable, match=f"is a (directory|{kind.upper()}|{kind}), not a file"):
                directories.find(f"{kind}.wav", DAY)

    def test_a_neighbour_with_the_same_beginning_is_outside(self, directories: Directories, monitor: Path) -> None:
        other = put(monitor.with_name("monitor-private") / "a.wav")
        with pytest.raises(RecordingUnusable, match="outside"):
            directories.admit(str(other))

    @given(
        st.lists(
            st.sampled_from(["..", ".", "", "secret.wav", "monitor", "out", "folder", "\0", "a.wav", "~", "%2e%2e"])
            | st.text(max_size=5),
            max_size=6,
        ),
        st.booleans(),
    )
    def test_nothing_at_all_leads_outside(self, parts: list[str], absolute: bool) -> None:  # noqa: FBT001 - hypothesis draws it
        named = ("/" if absolute else "") + "/".join(parts)
        root = PurePosixPath("/srv/monitor")
        try:
            found = list(places(named, [root], {}, DAY))
        except RecordingUnusable:
            return
        assert all(".." not in path.parts and path.is_absolute() for path in found)
        below = found[1:] if PurePosixPath(named).is_absolute() else found
        assert all(path.is_relative_to(root) for path in below)


class TestOpening:
    def test_a_folder_exchanged_for_a_link_is_refused(
        self, directories: Directories, monitor: Path, tmp_path: Path
    ) -> None:
        path = put(monitor / "2026/call.wav")
        put(tmp_path / "secrets/call.wav")
        (monitor / "2026").rename(monitor / "was")
        (monitor / "2026").symlink_to(tmp_path / "secrets")
        with pytest.raises(RecordingUnusable, match="can't be opened"):
            directories.open(path)

    def test_a_file_exchanged_for_something_else_is_refused(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "call.wav")
        path.unlink()
        with pytest.raises(FileNotFoundError):
            directories.open(path)
        os.mkfifo(path)
        with pytest.raises(RecordingUnusable, match="no regular file any more"):
            directories.open(path)  # and does not wait for a writer

    def test_a_customization_names_files_by_absolute_path(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "call.mp3")
        assert directories.admit(str(path)) == path
        with pytest.raises(RecordingUnusable, match="is no absolute path"):
            directories.admit("call.mp3")
        with pytest.raises(RecordingUnusable, match="there is no file"):
            directories.admit(str(monitor / "other.mp3"))

    def test_no_descriptor_is_left_open(self, directories: Directories, monitor: Path) -> None:
        path = put(monitor / "2026/11/call.wav")
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib has no better word for it
        for _ in range(3):
            os.close(directories.open(path))
            with pytest.raises(FileNotFoundError):
                directories.open(path.with_name("gone.wav"))
            with pytest.raises(RecordingUnusable):
                directories.open(path.parent)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
