"""The log: what it shows, what it hides, and that nobody can write lines of his own into it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo import log


@pytest.fixture(autouse=True)
def _former_logging() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def failing(message: str) -> None:
    raise ValueError(message) from KeyError("inner")


class TestJson:
    def test_one_object_a_line_with_level_time_and_logger(self) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        structlog.get_logger("itgrix_kommo.calls").info("call ended", result=200, phones=("a", "b"))
        (line,) = json_lines(stream)
        assert line.pop("timestamp").endswith("Z")
        assert line == {
            "event": "call ended", "level": "info", "logger": "itgrix_kommo.calls", "phones": ["a", "b"], "result": 200,
        }  # fmt: skip

    def test_carries_the_call_id_of_the_context(self) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        with structlog.contextvars.bound_contextvars(call_id="1795344324.0"):
            structlog.get_logger("a").info("ours")
            logging.getLogger("aiohttp.client").warning("theirs %s", 5)
        logging.getLogger("aiohttp.client").warning("outside")
        assert [(line["event"], line.get("call_id")) for line in json_lines(stream)] == [
            ("ours", "1795344324.0"),
            ("theirs 5", "1795344324.0"),
            ("outside", None),
        ]

    def test_line_breaks_stay_inside_their_line(self) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        hostile = "x\r\n{}\u2028\u202e\x9b\x7f\ud800"
        structlog.get_logger("a").info(hostile, caller=hostile)
        assert stream.getvalue().count("\n") == 1
        assert not set("\r\u2028\u202e\x9b\x7f\ud800") & set(stream.getvalue())
        assert json_lines(stream)[0]["caller"] == hostile

    def test_letters_of_any_script_stay_readable(self) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        structlog.get_logger("a").info("звонок")
        assert "звонок" in stream.getvalue()

    def test_exceptions_are_told_with_their_causes(self) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        try:
            failing("outer")
        except ValueError:
            structlog.get_logger("a").exception("failed")
            logging.getLogger("b").exception("failed too")
        for line in json_lines(stream):
            assert "KeyError: 'inner'" in line["exception"]
            assert "ValueError: outer" in line["exception"]
            assert line["level"] == "error"

    @given(st.text(), st.recursive(st.none() | st.floats() | st.text() | st.binary(), st.lists))
    def test_anything_can_be_logged(self, event: str, value: object) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        structlog.get_logger("a").info(event, value=value)
        assert len(stream.getvalue().split("\n")) == 2
        assert "value" in json.loads(stream.getvalue(), parse_constant=pytest.fail)


class TestConsole:
    def test_has_colours_on_a_terminal_only(self) -> None:
        plain, coloured = io.StringIO(), Terminal()
        log.configure("info", "console", stream=plain)
        structlog.get_logger("a").info("call ended", result=200)
        log.configure("info", "console", stream=coloured)
        structlog.get_logger("a").info("call ended", result=200)
        assert "\x1b[" not in plain.getvalue()
        assert "call ended" in plain.getvalue()
        assert "result=200" in plain.getvalue()
        assert "\x1b[" in coloured.getvalue()

    @given(st.text(), st.text(), st.lists(st.text(), max_size=2))
    def test_nobody_can_forge_a_line(self, event: str, value: str, nested: list[str]) -> None:
        stream = io.StringIO()
        log.configure("info", "console", stream=stream)
        structlog.get_logger("a").info("begin " + event, caller=value, nested=nested, **{value: 1})
        logging.getLogger("b").warning("%s", event)
        assert len(stream.getvalue().splitlines()) == 2
        assert all(
            character.isprintable() or ord(character) > 0x9F for character in stream.getvalue()[:-1].replace("\n", "")
        )

    def test_nor_through_an_exception(self) -> None:
        stream = io.StringIO()
        log.configure("info", "console", stream=stream)
        try:
            failing("x\n2026-11-22T10:00:00Z [info] all is well\r\x1b[2Jy")
        except ValueError:
            structlog.get_logger("a").exception("failed", stack_info=True)
        first, *rest = stream.getvalue().splitlines()
        assert "failed" in first
        assert rest
        assert all(line.startswith("    ") or not line or set(line) == {"="} for line in rest)
        assert "\\x1b[2J" in stream.getvalue()


class TestLevel:
    def test_below_it_nothing_is_shown(self) -> None:
        stream = io.StringIO()
        log.configure("warning", "json", stream=stream)
        structlog.get_logger("a").info("no")
        logging.getLogger("b").info("no")
        structlog.get_logger("a").warning("yes")
        assert [line["event"] for line in json_lines(stream)] == ["yes"]

    def test_can_be_changed_while_running(self) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        logger = structlog.get_logger("a")
        logger.debug("no")
        log.set_level("debug")
        logger.debug("yes")
        log.set_level("error")
        logger.warning("no")
        assert [line["event"] for line in json_lines(stream)] == ["yes"]

    def test_statements_of_the_database_stay_out(self) -> None:
        stream = io.StringIO()
        log.configure("debug", "json", stream=stream)
        logging.getLogger("sqlalchemy.engine.Engine").info("SELECT 1")
        logging.getLogger("aiosqlite").debug("executing")
        logging.getLogger("alembic.runtime.plugins").info("setup plugin alembic.autogenerate.schemas")
        logging.getLogger("sqlalchemy.pool").warning("yes")
        assert [line["event"] for line in json_lines(stream)] == ["yes"]


class TestReconfiguring:
    def test_loggers_made_before_follow(self) -> None:
        first, second = io.StringIO(), io.StringIO()
        log.configure("info", "json", stream=first)
        logger = structlog.get_logger("a")
        logger.info("one")
        log.configure("info", "console", stream=second)
        logger.info("two")
        assert [line["event"] for line in json_lines(first)] == ["one"]
        assert "two" in second.getvalue()

    def test_goes_to_stderr_unless_told_otherwise(self, capsys: pytest.CaptureFixture[str]) -> None:
        log.configure()
        structlog.get_logger("a").info("here")
        captured = capsys.readouterr()
        assert json.loads(captured.err)["event"] == "here"
        assert captured.out == ""

    def test_leaves_the_handlers_of_others_alone(self) -> None:
        other = logging.NullHandler()
        logging.getLogger().addHandler(other)
        log.configure(stream=io.StringIO())
        log.configure(stream=io.StringIO())
        handlers = logging.getLogger().handlers
        assert other in handlers
        assert len([handler for handler in handlers if type(handler).__module__ == log.__name__]) == 1


SECRET = 'pä/ss "w0rd" 7'


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


@dataclass
class Login:
    name: str
    code: str


class TestMask:
    @pytest.fixture
    def mask(self) -> log.Mask:
        mask = log.Mask()
        mask.register(SECRET)
        return mask

    @pytest.mark.parametrize(
        "value",
        [
            SECRET,
            f"before {SECRET} after",
            [SECRET],
            {"inner": {"deep": (SECRET,)}},
            {SECRET: 1},
            {"bytes": SECRET.encode()},
            {SECRET},
            Login("itgrix", SECRET),
            ValueError(SECRET),
            ValueError({"a": [SECRET]}),
            "https://h/?x=p%C3%A4%2Fss+%22w0rd%22+7",
            "https://h/p%C3%A4%2Fss%20%22w0rd%22%207",
            json.dumps({"a": SECRET}),
            json.dumps({"a": SECRET}, ensure_ascii=False),
        ],
    )
    def test_hides_a_registered_secret_wherever_it_stands(self, mask: log.Mask, value: object) -> None:
        shown = str(mask.value(value))
        assert "w0rd" not in shown
        assert log.MASK in shown

    def test_hides_numbers_too(self) -> None:
        mask = log.Mask()
        mask.register("12345678")
        assert mask.value([12345678, 1234, 1.5]) == [log.MASK, 1234, 1.5]

    def test_hides_the_longer_of_two_that_begin_alike(self) -> None:
        mask = log.Mask()
        mask.register("abcd")
        mask.register("abcdefgh")
        assert mask.text("abcdefgh") == log.MASK

    def test_ignores_the_empty_text(self) -> None:
        mask = log.Mask()
        mask.register("")
        assert mask.text("abc") == "abc"

    @pytest.mark.parametrize(
        "key", ["secret", "client_secret", "Secret", "password", "access_token", "tokens", "Authorization", "X-Api-Key"]
    )
    def test_hides_what_stands_under_a_telling_key(self, key: str) -> None:
        mask = log.Mask()
        assert mask.value({"headers": {key: "anything"}}) == {"headers": {key: log.MASK}}
        assert mask.value({key: None}) == {key: None}
        assert mask.value({key: True}) == {key: True}

    @pytest.mark.parametrize("key", ["token_expires_at", "secretary", "event", "passwords_checked"])
    def test_shows_what_stands_under_others(self, key: str) -> None:
        assert log.Mask().value({key: "anything"}) == {key: "anything"}

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("Authorization: Bearer eyJ0eXAiOiJKV1Qi.x.y", f"Authorization: Bearer {log.MASK}"),
            ("Basic YWRtaW46cGFzcw==", f"Basic {log.MASK}"),
            ("basic functionality", "basic functionality"),
            ("GET /oauth/kommo?code=def502&state=x", f"GET /oauth/kommo?code={log.MASK}&state=x"),
            ('{"refresh_token": "def502", "a": 1}', f'{{"refresh_token": "{log.MASK}", "a": 1}}'),
            ("{'access_token': 'def502'}", f"{{'access_token': '{log.MASK}'}}"),
            ("mysql+asyncmy://user:pa5s@h/d", f"mysql+asyncmy://user:{log.MASK}@h/d"),
            ("https://pbx.example.com:8077/a@b", "https://pbx.example.com:8077/a@b"),
            ("ami.secret: missing: add it", "ami.secret: missing: add it"),
        ],
    )
    def test_hides_what_looks_like_a_credential(self, text: str, shown: str) -> None:
        assert log.Mask().text(text) == shown

    def test_things_that_hold_themselves_come_to_an_end(self, mask: log.Mask) -> None:
        inner: list[object] = [SECRET]
        inner.append(inner)
        assert "w0rd" not in str(mask.value(inner))

    @given(st.text(min_size=4), st.text(), st.text())
    def test_whatever_the_secret_is(self, secret: str, before: str, after: str) -> None:
        mask = log.Mask()
        mask.register(secret)
        shown = mask.text(before + secret + after)
        assert log.MASK in shown
        assert secret not in shown.replace(log.MASK, "") or secret in (before + after)


class TestMaskedLines:
    @pytest.mark.parametrize("output", ["json", "console"])
    def test_a_registered_secret_reaches_no_line(self, output: log.Output) -> None:
        stream = io.StringIO()
        log.configure("debug", output, stream=stream)
        log.register_secret("registered-for-lines-3")
        logger = structlog.get_logger("a")
        try:
            failing("registered-for-lines-3")
        except ValueError:
            logger.exception("registered-for-lines-3", inner=[{"a": "registered-for-lines-3"}])
            logging.getLogger("panoramisk").exception("sent %s", {"Secret": "registered-for-lines-3"})
        with structlog.contextvars.bound_contextvars(call_id="registered-for-lines-3"):
            logger.info("%s and more", "registered-for-lines-3")
        assert "registered-for-lines-3" not in stream.getvalue()
        assert stream.getvalue().count(log.MASK) >= 7

    def test_a_line_that_can_not_be_written_tells_no_argument(self) -> None:
        stream = io.StringIO()
        logging.getLogger().handlers.clear()  # pytest's own raises where a line can't be formatted
        log.configure("info", "json", stream=stream)
        logging.getLogger("b").info("%d", SECRET)
        structlog.get_logger("a").info("odd", value=Unprintable())
        assert stream.getvalue().splitlines() == [
            "a line of the logger 'b' could not be written: TypeError",
            "a line of the logger 'a' could not be written: RuntimeError",
        ]
        assert "w0rd" not in stream.getvalue()

    def test_a_closed_stderr_harms_nobody(self) -> None:
        stream = io.StringIO()
        log.configure("info", "json", stream=stream)
        stream.close()
        structlog.get_logger("a").info("into the void")

    def test_masked_text_for_pages_and_commands(self) -> None:
        log.register_secret("registered-for-pages-4")
        assert log.masked("x registered-for-pages-4 y") == f"x {log.MASK} y"
