"""The configuration as a file: broken, odd, hostile or somebody else's, it is refused with a word of help."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itgrix_kommo.config import Config, load, looks_like_vendors
from itgrix_kommo.errors import ConfigError
from tests.test_config import SMALLEST, changed, refused

EXAMPLE = Path(__file__).parents[1] / "etc" / "itgrix_amo" / "config.json"


class TestFile:
    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", "line 1, column 1: the file is empty: write one with `itgrix-kommo config init`"),
            (
                b'{"ami": ',
                (
                    "line 1, column 9: the file ends too early: "
                    "close the open brackets and braces, or restore the rest of it"
                ),
            ),
            (
                b'{"a": 1\n "b": 2}',
                "line 2, column 2: a comma is missing before this: put one after the previous value",
            ),
            (b'{"a" 1}', "line 1, column 6: a colon is missing after the key: put one"),
            (b"{ami: 1}", 'line 1, column 2: a key without quotes: write it as "key"'),
            (b"{'ami': 1}", 'line 1, column 2: single quotes: use "'),
            (b'{\n// the PBX\n"ami": 1}', "line 2, column 1: a comment: take it away, JSON has none"),
            (b'{"a": "x\ny"}', 'line 1, column 9: text runs on to the next line: close it with " or write \\n'),
            (b'{"a": "x', 'line 1, column 7: text that never ends: close it with "'),
            (b'{"a": "\\d"}', "line 1, column 8: a backslash that means nothing: write it twice: \\\\"),
            (b"{}}", "line 1, column 3: something after the end: check the braces, one may close too early"),
            (
                b'{"a": yes}',
                "line 1, column 7: no JSON value: give text in quotes, a number, true, false, null, [] or {}",
            ),
            (b"[" * 100_000, "nested without end: this can't be the configuration"),
            (b'\xef\xbb\xbf{"ami": {}}', "begins with a byte order mark: save it as UTF-8 without BOM"),
            ('{"ami": {}}'.encode("utf-16"), "written as UTF-16: save it as UTF-8"),
            (b'{"a":\n"\xff"}', "line 2: not UTF-8: save the file as UTF-8"),
            (b" " * (1024 * 1024 + 1), "larger than 1 MiB: this can't be the configuration"),
        ],
    )
    def test_broken_says_where_and_what_to_do(self, tmp_path: Path, content: bytes, line: str) -> None:
        assert refused(tmp_path, content) == [f"{tmp_path}/config.json: {line}"]

    @pytest.mark.parametrize("content", [b'{"ami": {},}', b'{"a": [1,]}'])
    def test_a_comma_too_many(self, tmp_path: Path, content: bytes) -> None:
        (line,) = refused(tmp_path, content)  # the column is the comma's from Python 3.13 on, the bracket's before
        assert re.fullmatch(r".*: line 1, column \d+: a comma without a successor: take the comma away", line)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"there is no such file: write one with"):
            load(tmp_path / "config.json")

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"a directory: give the path of config\.json in it"):
            load(tmp_path)

    def test_pipe_does_not_hold_up_the_start(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "config.json")
        with pytest.raises(ConfigError, match="no regular file"):
            load(tmp_path / "config.json")

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)  # root, who may run this, can read everything
        with pytest.raises(ConfigError, match="may not be read by this user: chown or chmod it"):
            load(tmp_path / "config.json")

    def test_impossible_path(self) -> None:
        with pytest.raises(ConfigError, match=r"can't be read \(no usable path\)"):
            load(Path("/etc/con\x00fig.json"))
        with pytest.raises(ConfigError, match=r"can't be read \(File name too long\)"):
            load(Path("/etc") / ("x" * 300))

    @pytest.mark.parametrize(
        ("content", "lines"),
        [
            (b"[]", ["the file: a list where an object is wanted: give an object"]),
            (b"null", ["the file: null where an object is wanted: give an object"]),
            (b'{"ami": 1, "ami": 2}', ["ami: stands here twice: keep one of them"]),
            (b'{"ami": {"port": NaN}}', ["ami.port: NaN is no JSON: give a number"]),
            (b'{"ami": {"port": -Infinity}}', ["ami.port: -Infinity is no JSON: give a number"]),
            (b'{"ami": {"port": 1e999}}', ["ami.port: a number too large: give a number"]),
            (b'{"ami": {"port": ' + b"9" * 5000 + b"}}", ["ami.port: a number of too many digits: give a number"]),
            (
                b'{"ami": {"host": "\\ud800"}}',
                ["ami.host: line breaks or control characters: give plain text in one line"],
            ),
            (
                b'{"ami": {"host": "' + "…".encode() + b'"}}',
                [
                    (
                        "ami.host: not filled in yet: fill in ami.host (Host of Asterisk's manager interface; "
                        "the daemon usually runs beside it)"
                    )
                ],
            ),
            (
                b'{"a":' * 30 + b"1" + b"}" * 30,
                [".".join("a" * 16) + ": nested too deeply: see the README's chapter on the configuration"],
            ),
        ],
    )
    def test_odd_values_are_found_wherever_they_stand(self, tmp_path: Path, content: bytes, lines: list[str]) -> None:
        assert refused(tmp_path, content)[: len(lines)] == lines

    def test_a_repeated_key_hides_no_other_problem(self, tmp_path: Path) -> None:
        content = b'{"ami": {}, "ami": {"username": "itgrix", "secret": "ami-secret-77", "port": 0, "port": 70000}}'
        assert refused(tmp_path, content) == [
            "ami: stands here twice: keep one of them",
            "ami.port: stands here twice: keep one of them",
            "ami.port: 70000 is no TCP port: give a whole number from 1 to 65535",
            "kommo: missing: add it (The Kommo account)",
        ]

    def test_repeated_keys_deep_inside_are_named(self, tmp_path: Path) -> None:
        text = json.dumps(changed("employees", [{"user_id": 1, "extension": "101"}]))
        text = text.replace('"extension": "101"', '"extension": "101", "extension": "102"')
        assert refused(tmp_path, text.encode()) == ["employees[0].extension: stands here twice: keep one of them"]


class TestVendorsFile:
    def test_is_recognised(self, tmp_path: Path) -> None:
        document = {"database": {"host": "localhost", "column_name_aliases": {"cel_extra": "extra"}}, "port": 8077}
        found = refused(tmp_path, document)
        assert len(found) == 1
        assert "vendor's own connector: `itgrix-kommo config import` keeps a copy" in found[0]

    @pytest.mark.parametrize(
        "document",
        [
            SMALLEST,
            {},
            [],
            {"database": {}},
            {"database": None},
            {"database": {"url": "mysql+asyncmy://h/d", "column_name_aliases": {}}},
            {"ami": {}, "database": {"column_name_aliases": {}}},
            {"amii": {}, "komo": {}},
        ],
    )
    def test_is_not_seen_where_ours_is_merely_wrong(self, document: object) -> None:
        assert not looks_like_vendors(document)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
OUR_KEYS = st.sampled_from(sorted({*Config.model_fields, "port", "secret", "url", "host", "file", "env", "pattern"}))
NEARLY_OURS = st.dictionaries(
    OUR_KEYS, st.recursive(ANY_JSON, lambda inner: st.dictionaries(OUR_KEYS, inner, max_size=4), max_leaves=8)
)
SENTINEL = "Zq9-hidden-treasure"
HIDING = st.recursive(
    st.just(SENTINEL) | st.none() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OUR_KEYS, inner, max_size=3),
    max_leaves=6,
)


def leaves(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The places of everything below `value`, containers included."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [found for step, below in inner for found in [(*place, step), *leaves(below, (*place, step))]]


FULL: dict[str, Any] = json.loads(EXAMPLE.read_text())


class TestAnything:
    @given(ANY_JSON | NEARLY_OURS)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_raises_nothing_but_config_error(self, tmp_path: Path, document: object) -> None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(document))
        with pytest.raises(ConfigError):
            load(path)

    @given(st.binary(max_size=200))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_bytes_too(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "config.json"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load(path)
        str(caught.value).encode()

    @given(st.sampled_from(leaves(FULL)), HIDING)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
    def test_never_tells_a_secret_whatever_place_it_strayed_to(
        self, tmp_path: Path, place: tuple[str | int, ...], stray: object
    ) -> None:
        document: Any = copy.deepcopy(FULL)
        document["unknown"] = 0  # so that it is refused in any case
        inner = document
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = stray
        path = tmp_path / "config.json"
        path.write_text(json.dumps(document))
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert "unknown key" in str(caught.value)
        assert SENTINEL not in repr(caught.value)
