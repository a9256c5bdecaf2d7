"""The configuration refused: wrong values and unknown keys, each named with its place, the reason and the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from itgrix_kommo.config import Config
from tests.test_config import changed, loaded, refused


class TestRefusals:
    @pytest.mark.parametrize(
        ("place", "value", "finding", "remedy"),
        [
            ("ami.port", 70000, "ami.port: 70000 is no TCP port", "give a whole number from 1 to 65535"),
            ("ami.port", "5038", "ami.port: text where a number is wanted", "give a whole number from 1 to 65535"),
            ("ami.port", 50.5, "ami.port: 50.5 is no whole number", "give a whole number from 1 to 65535"),
            (
                "ami.port",
                True,
                "ami.port: true or false where a number is wanted",
                "give a whole number from 1 to 65535",
            ),
            ("ami.port", None, "ami.port: null where a number is wanted", "give a whole number from 1 to 65535"),
            ("ami.tls", "yes", "ami.tls: text where true or false is wanted", "give true or false"),
            (
                "ami.host",
                "pbx:5038",
                "ami.host: neither a host name nor an IP address",
                "give a name or an address, no port",
            ),
            ("ami.username", "", "ami.username: empty", "give some text"),
            ("ami.username", "x" * 256, "ami.username: too long", "give 255 characters at most"),
            (
                "ami.username",
                "itgrix\r\nAction: Logoff",
                "ami.username: line breaks or control characters",
                "give plain text in one line",
            ),
            (
                "kommo.base_url",
                "https://www.kommo.com",
                "kommo.base_url: not the address of one account",
                "give the account's own, such as https://acme.kommo.com",
            ),
            (
                "kommo.base_url",
                "https://acme.kommo.com/api/v4",
                "kommo.base_url: an address with a path",
                "give the account's own, such as https://acme.kommo.com",
            ),
            (
                "kommo.base_url",
                "http://acme.kommo.com",
                "kommo.base_url: an unencrypted address",
                "begin it with https://",
            ),
            ("kommo.base_url", "acme", "kommo.base_url: no web address", "give one such as https://pbx.example.com"),
            (
                "kommo.base_url",
                "ftp://acme.kommo.com",
                "kommo.base_url: no http or https address",
                "give one such as https://pbx.example.com",
            ),
            (
                "kommo.base_url",
                "https://u:p@acme.kommo.com",
                "kommo.base_url: a user or password inside the address",
                "leave them out",
            ),
            (
                "kommo.base_url",
                "https://acme.kommo.com?x",
                "kommo.base_url: an address with ? or #",
                "end it with the host or path",
            ),
            (
                "kommo.requests_per_second",
                8,
                "kommo.requests_per_second: 8 is no rate of 7 requests/s at most",
                "give a whole number from 1 to 7",
            ),
            (
                "kommo.webhook_secret",
                "a/b-c_d~e.f",
                "kommo.webhook_secret: it can't stand in a web address",
                "use letters, digits, - and _ only",
            ),
            ("node.name", "a b", "node.name: no usable name", "use up to 40 letters, digits, dots, - and _"),
            ("node.timezone", "Europe/Moskow", "node.timezone: no IANA time zone", 'did you mean "Europe/Moscow"?'),
            (
                "node.timezone",
                "../../etc/passwd",
                "node.timezone: no IANA time zone",
                'give one such as "Europe/Madrid"',
            ),
            (
                "numbers.region",
                "ru",
                "numbers.region: no country code",
                'give two capital letters such as "RU" or "US", or null',
            ),
            (
                "numbers.trunks",
                ["trunk"],
                "numbers.trunks[0]: no trunk",
                'give technology and name as Asterisk does: "PJSIP/trunk"',
            ),
            ("numbers.trunks", "PJSIP/trunk", "numbers.trunks: text where a list is wanted", "give a list"),
            ("business", [], "business: a list where an object is wanted", "give an object"),
            (
                "business.create_leads",
                "alway",
                "business.create_leads: not one of the values known here",
                'did you mean "always"?',
            ),
            ("business.popup", 1, "business.popup: not one of the values known here", "give ringing, answered or off"),
            ("business.tags", ["a", 5], "business.tags[1]: a number where text is wanted", "give text"),
            (
                "business.routes",
                [{}],
                "business.routes[0].did: neither trunk nor did is given",
                "give one of them, or change business itself",
            ),
            (
                "customizations.directory",
                "actions",
                "customizations.directory: no absolute path",
                "give one that begins with /",
            ),
            (
                "customizations.disabled",
                ["need_registraton"],
                "customizations.disabled[0]: not one of the values known here",
                'did you mean "need_registration"?',
            ),
            (
                "customizations.timeouts",
                {"post_registraton": 1},
                "customizations.timeouts.post_registraton: not one of the values known here",
                'did you mean "post_registration"?',
            ),
            (
                "customizations.timeouts",
                {"post_registration": 0},
                "customizations.timeouts.post_registration: 0 is no time-out in seconds",
                "give a number from 0.1 to 3600",
            ),
            (
                "recordings.public_url",
                "pbx.example.com",
                "recordings.public_url: no web address",
                "give one such as https://pbx.example.com",
            ),
            (
                "recordings.path_map",
                {"mnt": "/srv"},
                "recordings.path_map.mnt: no absolute path",
                "give one that begins with /",
            ),
            (
                "originate.channel",
                "PJSIP/{extension.__class__}",
                "originate.channel: an unknown field in braces",
                "use {extension} and {phone} alone",
            ),
            (
                "originate.caller_id",
                "{phone!r}",
                "originate.caller_id: an unknown field in braces",
                "use {extension} and {phone} alone",
            ),
            (
                "originate.caller_id",
                "{phone",
                "originate.caller_id: a brace without its partner",
                "use {extension} and {phone} alone; a brace itself is written twice",
            ),
            (
                "http.tls_key",
                "/etc/key.pem",
                "http.tls_key: tls_certificate and tls_key belong together",
                "give both, or neither",
            ),
            (
                "http.tls_certificate",
                "/etc/chain.pem",
                "http.tls_key: tls_certificate and tls_key belong together",
                "give both, or neither",
            ),
            (
                "http.public",
                {"port": 8077},
                "http.public: the same port as http.port",
                "give the public listener a port of its own",
            ),
            ("http.public", {}, "http.public.port: missing", "add it (TCP port to listen on)"),
            (
                "http.trusted_proxies",
                ["10.0.0.1/8"],
                "http.trusted_proxies[0]: no network",
                "give an address or network such as 10.0.0.0/8, host bits zero",
            ),
            (
                "http.trusted_proxies",
                [10],
                "http.trusted_proxies[0]: a number where a network is wanted",
                "give text such as 10.0.0.0/8",
            ),
            (
                "database",
                {"url": "mysql://u:p@h/d"},
                "database.url: a database or driver that can't be used here",
                (
                    "begin the address with mysql+asyncmy:// or "
                    "mysql+aiomysql:// or postgresql+asyncpg:// or sqlite+aiosqlite://"
                ),
            ),
            (
                "database",
                {"url": "nonsense"},
                "database.url: no database address",
                (
                    "give mysql+asyncmy://user@host/database, with :password behind the user; "
                    "% of a password is written %25, and @ %40"
                ),
            ),
            (
                "database",
                {"url": "mysql+asyncmy://u:p@h"},
                "database.url: the address names no database",
                (
                    "give mysql+asyncmy://user@host/database, with :password behind the user; "
                    "% of a password is written %25, and @ %40"
                ),
            ),
            (
                "storage.shared_url",
                "postgresql+asyncpg://u:p@ss@h/d",
                "storage.shared_url: an @ too many in the address",
                (
                    "give postgresql+asyncpg://user@host/database, with :password behind the user; "
                    "% of a password is written %25, and @ %40"
                ),
            ),
            (
                "storage.shared_url",
                "postgresql+asyncpg://u:p@h:643200/d",
                "storage.shared_url: 643200 is no port",
                "give one from 1 to 65535",
            ),
            (
                "storage.shared_url",
                "sqlite+aiosqlite:///x",
                "storage.shared_url: a database or driver that can't be used here",
                "begin the address with postgresql+asyncpg://",
            ),
            (
                "storage.url",
                "sqlite+aiosqlite://",
                "storage.url: the address names no file",
                "give one that outlives the process, as sqlite+aiosqlite:////path does",
            ),
            ("bussiness", {}, "bussiness: unknown key", 'did you mean "business"?'),
            ("ami.zzz", 1, "ami.zzz: unknown key", "known here are host, port, username, secret and tls"),
            ("business.tasks.due_minute", 1, "business.tasks.due_minute: unknown key", 'did you mean "due_minutes"?'),
            (
                "numbers.replacements",
                [{"pattern": "a", "substitution": "b", "aplies_to": "client"}],
                "numbers.replacements[0].aplies_to: unknown key",
                'did you mean "applies_to"?',
            ),
        ],
    )
    def test_name_place_reason_and_remedy(
        self, tmp_path: Path, place: str, value: object, finding: str, remedy: str
    ) -> None:
        assert refused(tmp_path, changed(place, value)) == [f"{finding}: {remedy}"]

    @pytest.mark.parametrize(("key", "shown"), [("two words", '["two words"]'), ("x" * 70, '["' + "x" * 40 + '…"]')])
    def test_quote_and_shorten_foreign_keys(self, tmp_path: Path, key: str, shown: str) -> None:
        (line,) = refused(tmp_path, changed(f"ami.{key}", 1))
        assert json.loads(line[line.index("[") : line.index("]") + 1]) == json.loads(shown)
        assert line.endswith("]: unknown key: known here are host, port, username, secret and tls")

    @pytest.mark.parametrize(
        ("place", "value", "finding"),
        [
            ("node.timezone", 3, "node.timezone: a number where a time zone is wanted: give text"),
            ("originate.allowed", [112], "originate.allowed[0]: a number where a number pattern is wanted: give text"),
            (
                "numbers.replacements",
                [{"pattern": "(", "substitution": "$1"}],
                "numbers.replacements[0].pattern: no reg",
            ),
            ("ami.host", "1.2.3.400", "ami.host: neither a host name nor an IP address"),
            ("ami.host", "-pbx", "ami.host: neither a host name nor an IP address"),
            ("employees", [{"user_id": 1}], "employees[0].extension: missing: add it (The employee's internal number"),
        ],
    )
    def test_name_the_one_place(self, tmp_path: Path, place: str, value: object, finding: str) -> None:
        (line,) = refused(tmp_path, changed(place, value))
        assert line.startswith(finding)

    def test_a_host_without_time_zones(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("itgrix_kommo.config.values.available_timezones", set)
        assert refused(tmp_path, changed("node.timezone", "Europe/Madrid")) == [
            "node.timezone: this host has no time zone database: install the package tzdata"
        ]

    def test_list_every_problem(self, tmp_path: Path) -> None:
        document = changed("ami.port", 0)
        document |= {"language": "fr", "bussiness": {}, "logging": {"level": "loud", "format": 5}}
        del document["ami"]["secret"], document["kommo"]["access_token"]
        assert sorted(refused(tmp_path, document)) == [
            "ami.port: 0 is no TCP port: give a whole number from 1 to 65535",
            "ami.secret: missing: add it (Secret of that manager.conf user)",
            'bussiness: unknown key: did you mean "business"?',
            "kommo.integration: neither access_token nor integration is given: give kommo.access_token or this object",
            "language: not one of the values known here: give en, es, pt or ru",
            "logging.format: not one of the values known here: give json or console",
            "logging.level: not one of the values known here: give debug, info, warning or error",
        ]

    def test_tell_which_employees_claim_the_same(self, tmp_path: Path) -> None:
        employees = [
            {"user_id": 1, "extension": "101", "numbers": ["+7 (999) 123-45-67"]},
            {"user_id": 2, "extension": "102", "numbers": ["+79991234567"]},
            {"user_id": 1, "extension": "102"},
        ]
        assert refused(tmp_path, changed("employees", employees)) == [
            "employees[1].numbers[0]: employees[0] has it too: give each number to one employee",
            "employees[2].user_id: employees[0] has it too: keep one entry for each user",
            "employees[2].extension: employees[1] has it too: give each number to one employee",
        ]

    def test_an_employee_may_repeat_his_own_extension_among_his_numbers(self, tmp_path: Path) -> None:
        employees = [{"user_id": 1, "extension": "101", "numbers": ["101"]}]
        assert loaded(tmp_path, changed("employees", employees)).employees[0].numbers == ("101",)

    def test_are_silent_about_text_even_when_pydantic_is_asked_directly(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Config.model_validate(changed("ami", "hunter2hunter2"))
        assert "hunter2" not in str(caught.value)
