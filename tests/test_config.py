"""The configuration as it is meant to be: defaults, kinds of value, warnings, the file to begin with."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from itgrix_kommo.config import Config, load, starting_file
from itgrix_kommo.errors import ConfigError

SMALLEST: dict[str, Any] = {
    "ami": {"username": "itgrix", "secret": "ami-secret-77"},
    "kommo": {"base_url": "https://acme.kommo.com", "access_token": "token-of-kommo-88"},
}


def changed(place: str, value: object) -> dict[str, Any]:
    """The smallest configuration with `value` at the dotted `place`."""
    document = copy.deepcopy(SMALLEST)
    inner = document
    *path, last = place.split(".")
    for key in path:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return document


def loaded(directory: Path, document: object) -> Config:
    path = directory / "config.json"
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    path.chmod(0o600)
    return load(path)


def refused(directory: Path, document: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, document)
    return str(caught.value).splitlines()


class TestSmallest:
    def test_needs_asterisk_and_kommo_alone(self, tmp_path: Path) -> None:
        config = loaded(tmp_path, SMALLEST)
        assert config.ami.secret.get_secret_value() == "ami-secret-77"
        assert config.kommo.base_url == "https://acme.kommo.com"
        assert (config.http.host, config.http.port) == ("127.0.0.1", 8077)

    def test_has_the_documented_defaults(self, tmp_path: Path) -> None:
        found = loaded(tmp_path, SMALLEST).model_dump(mode="json")
        assert found["ami"] == {
            "host": "127.0.0.1", "port": 5038, "username": "itgrix", "secret": "**********", "tls": False,
        }  # fmt: skip
        assert found["kommo"]["requests_per_second"] == 6
        assert found["kommo"]["timeout_s"] == 10
        assert found["node"] == {"name": "pbx1", "timezone": None}
        assert found["employees"] == []
        assert found["numbers"] == {
            "internal_max_length": 4, "region": None, "trunks": [], "peer_trunks": [], "replacements": [],
            "outside_prefixes": [],
            "fmc_patterns_file": "/etc/itgrix_amo/fmc_patterns.txt", "blacklist": [], "whitelist": [],
        }  # fmt: skip
        assert found["business"] == {
            "create_contacts": True, "create_leads": "no_open_lead", "unsorted": False, "pipeline_id": None,
            "status_id": None, "tags": ["Itgrix"], "default_user_id": None, "create_at": "end",
            "missed_responsible": "entity", "reassign_on_answer": False, "popup": "ringing", "routes": [],
            "tasks": {
                "missed_inbound": True, "unanswered_outbound": False, "due_minutes": 15, "task_type": 1,
                "complete_on_contact": True, "max_age_hours": 24, "working_hours": None,
            },
        }  # fmt: skip
        assert found["customizations"] == {
            "enabled": True, "directory": "/opt/itgrix_amo/customizer/actions", "disabled": [], "timeout_s": 3,
            "timeouts": {"process_record_file_path": 10, "customize_autodistribution": 0.5}, "php_workers": 2,
            "socket": None, "trace": False,
        }  # fmt: skip
        assert found["recordings"] == {
            "enabled": True, "directories": ["/var/spool/asterisk/monitor"], "public_url": None, "path_map": {},
            "format": "mp3", "bitrate": "32k", "conversion_timeout_s": 10, "link_secret": None, "link_days": None,
            "cache_gb": 5, "cache_days": 90,
        }  # fmt: skip
        assert found["language"] == "en"
        assert found["originate"] == {
            "channel": "PJSIP/{extension}", "context": "from-internal", "priority": 1,
            "caller_id": '"{phone}" <{extension}>', "timeout_s": 30, "allowed": ["+[1-9]XXXXXX."],
            "per_user_per_minute": 10, "per_minute": 60,
        }  # fmt: skip
        assert found["http"] == {
            "host": "127.0.0.1", "port": 8077, "tls_certificate": None, "tls_key": None,
            "admin": {"login": "admin", "password": None}, "tokens": {"originate": None, "autodistribution": None},
            "public": None, "trusted_proxies": [],
        }  # fmt: skip
        assert found["database"] is None
        assert found["storage"]["retention_days"] == 90
        assert found["logging"] == {"level": "info", "format": "json"}
        assert (
            Config.model_fields["storage"].default.url.get_secret_value()
            == "sqlite+aiosqlite:////var/lib/itgrix_amo/itgrix.db"
        )

    def test_can_not_be_changed(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            loaded(tmp_path, SMALLEST).ami.port = 1  # type: ignore[misc]  # that it is refused is the point


class TestAccepted:
    def test_sandbox_on_loopback_may_be_unencrypted(self, tmp_path: Path) -> None:
        config = loaded(tmp_path, changed("kommo.base_url", "http://127.0.0.1:8090/"))
        assert config.kommo.base_url == "http://127.0.0.1:8090"
        assert any(line.startswith("kommo.base_url: unencrypted") for line in config.warnings())

    @pytest.mark.parametrize(("given_as", "means"), [(True, "ringing"), (False, "off"), ("answered", "answered")])
    def test_popup_may_be_a_switch(self, tmp_path: Path, given_as: object, means: str) -> None:
        assert loaded(tmp_path, changed("business.popup", given_as)).business.popup == means

    def test_one_timeout_leaves_the_other_defaults(self, tmp_path: Path) -> None:
        found = loaded(tmp_path, changed("customizations.timeouts", {"post_registration": 1})).customizations
        assert found.timeout_of("post_registration") == 1
        assert found.timeout_of("customize_autodistribution") == 0.5
        assert found.timeout_of("need_registration") == 3

    def test_integration_alone_is_enough(self, tmp_path: Path) -> None:
        document = changed(
            "kommo.integration",
            {
                "client_id": "7c1d",
                "client_secret": "client-secret",
                "redirect_uri": "https://pbx.example.com/oauth/kommo",
            },
        )
        del document["kommo"]["access_token"]
        found = loaded(tmp_path, document).kommo
        assert found.access_token is None
        assert found.integration is not None
        assert found.integration.redirect_uri == "https://pbx.example.com/oauth/kommo"

    def test_redirect_address_stays_letter_by_letter(self, tmp_path: Path) -> None:
        given = {"client_id": "7c1d", "client_secret": "client-secret", "redirect_uri": "https://PBX.example.com"}
        found = loaded(tmp_path, changed("kommo.integration", given)).kommo.integration
        assert found is not None
        assert found.redirect_uri == "https://PBX.example.com"

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
    def test_asterisk_on_loopback_needs_no_tls(self, tmp_path: Path, host: str) -> None:
        found = loaded(tmp_path, changed("ami.host", host)).warnings()
        assert not [line for line in found if line.startswith("ami.")]

    def test_proxies_are_networks(self, tmp_path: Path) -> None:
        found = loaded(tmp_path, changed("http.trusted_proxies", ["10.0.0.0/8", "::1"])).http.trusted_proxies
        assert [str(network) for network in found] == ["10.0.0.0/8", "::1/128"]

    def test_time_zone_is_ready_for_use(self, tmp_path: Path) -> None:
        zone = loaded(tmp_path, changed("node.timezone", "Europe/Madrid")).node.timezone
        assert zone is not None
        assert zone.key == "Europe/Madrid"

    def test_what_was_loaded_can_be_validated_again(self, tmp_path: Path) -> None:
        document = changed("business.tasks.working_hours", {"mon-fri": "09:00-18:00"})
        document["http"] = {"trusted_proxies": ["10.0.0.0/8"]}
        document["node"] = {"timezone": "Europe/Madrid"}
        config = loaded(tmp_path, document)
        assert Config.model_validate(config.model_dump()) == config


class TestWarnings:
    def test_none_on_a_tidy_configuration(self, tmp_path: Path) -> None:
        document = changed("employees", [{"user_id": 1, "extension": "101"}])
        document["recordings"] = {"public_url": "https://pbx.example.com:8077/"}
        config = loaded(tmp_path, document)
        assert config.warnings() == []
        assert config.recordings.public_url == "https://pbx.example.com:8077"

    @pytest.mark.parametrize(
        ("place", "value", "begins"),
        [
            ("recordings.public_url", "http://pbx.example.com", "recordings.public_url: unencrypted"),
            ("recordings.public_url", None, "recordings.public_url: not given"),
            ("ami.host", "10.1.2.3", "ami.tls: off"),
            ("ami.host", "pbx.example.com", "ami.tls: off"),
            ("ami.secret", "amp111", "ami.secret: less than 8 characters"),
            ("http.admin", {"password": "admin"}, "http.admin.password: less than 8 characters"),
            ("http.host", "0.0.0.0", "http.tls_certificate: none"),  # noqa: S104 - nothing listens here
            ("http.public", {"port": 8078}, "http.public.tls_certificate: none"),
            ("employees", [], "employees: empty"),
        ],
    )
    def test_name_what_works_but_should_be_known(self, tmp_path: Path, place: str, value: object, begins: str) -> None:
        assert [line for line in loaded(tmp_path, changed(place, value)).warnings() if line.startswith(begins)]

    def test_world_readable_file_with_secrets(self, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(SMALLEST))
        path.chmod(0o644)
        assert (
            f"{path}: everybody on this host can read the secrets in it: run chmod 640 {path}" in load(path).warnings()
        )

    def test_world_readable_file_without_secrets_is_fine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ITGRIX_TEST_SECRET", "environmental")
        document = changed("ami.secret", {"env": "ITGRIX_TEST_SECRET"})
        document["kommo"]["access_token"] = {"env": "ITGRIX_TEST_SECRET"}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(document))
        path.chmod(0o644)
        assert not [line for line in load(path).warnings() if "everybody" in line]


class TestStartingFile:
    def test_is_refused_until_it_is_filled_in(self, tmp_path: Path) -> None:
        assert refused(tmp_path, starting_file().encode()) == [
            (
                "ami.username: not filled in yet: fill in ami.username "
                "(Name of the manager.conf user made for the connector)"
            ),
            "ami.secret: not filled in yet: fill in ami.secret (Secret of that manager.conf user)",
            (
                "kommo.base_url: not filled in yet: fill in kommo.base_url "
                "(Address of your Kommo account, such as https://acme.kommo.com)"
            ),
            (
                "kommo.access_token: not filled in yet: fill in kommo.access_token "
                "(Long-lived token of the integration; null where `integration` gets its tokens by OAuth)"
            ),
            "employees[0].user_id: not filled in yet: fill in employees[0].user_id (The employee's user id in Kommo)",
            (
                "employees[0].extension: not filled in yet: fill in employees[0].extension "
                "(The employee's internal number; who has a mobile alone gives its number here)"
            ),
        ]

    def test_loads_once_it_is(self, tmp_path: Path) -> None:
        document = json.loads(starting_file())
        document["ami"] |= SMALLEST["ami"]
        document["kommo"] |= SMALLEST["kommo"]
        document["employees"] = [{"user_id": 9100001, "extension": "101", "numbers": []}]
        assert loaded(tmp_path, document).employees[0].user_id == 9100001
