"""Secrets of the configuration: where they come from, and that they are shown nowhere."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo import log
from itgrix_kommo.config import Config, json_schema, load
from itgrix_kommo.errors import ConfigError

TREASURE = "Zq9-hidden-treasure"
DOCUMENT: dict[str, Any] = {
    "ami": {"username": "itgrix", "secret": TREASURE},
    "kommo": {"base_url": "https://acme.kommo.com", "access_token": TREASURE, "webhook_secret": TREASURE},
    "http": {"admin": {"password": TREASURE}, "tokens": {"originate": TREASURE, "autodistribution": TREASURE}},
    "recordings": {"link_secret": TREASURE},
    "database": {"url": f"mysql+asyncmy://user:{TREASURE}@127.0.0.1/asteriskcdrdb"},
    "storage": {"shared_url": f"postgresql+asyncpg://user:{TREASURE}@db/itgrix"},
}


def with_ami_secret(secret: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    document["ami"]["secret"] = secret
    return document


def loaded(directory: Path, document: object) -> Config:
    path = directory / "config.json"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return load(path)


def refused(directory: Path, secret: object) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, with_ami_secret(secret))
    return str(caught.value)


class TestFromFile:
    @pytest.mark.parametrize("content", [b"from-a-file", b"from-a-file\n", b"from-a-file\r\n"])
    def test_the_line_break_at_the_end_does_not_count(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "secret"
        file.write_bytes(content)
        config = loaded(tmp_path, with_ami_secret({"file": str(file)}))
        assert config.ami.secret.get_secret_value() == "from-a-file"

    def test_readable_by_everybody_is_a_warning(self, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text("from-a-file")
        file.chmod(0o644)
        warnings = loaded(tmp_path, with_ami_secret({"file": str(file)})).warnings()
        assert f"{file}: everybody on this host can read the secret: run chmod o-rwx {file}" in warnings
        file.chmod(0o640)
        assert not [
            line for line in loaded(tmp_path, with_ami_secret({"file": str(file)})).warnings() if "chmod" in line
        ]

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "the secret is empty"),
            (b" \n", "the secret is empty"),
            (b"one\ntwo\n", "the secret has several lines or control characters"),
            (b"\xff\xfe", "is not UTF-8"),
            (b"x" * 70_000, "is larger than 64 KiB"),
        ],
    )
    def test_unusable_content(self, tmp_path: Path, content: bytes, problem: str) -> None:
        file = tmp_path / "secret"
        file.write_bytes(content)
        line = refused(tmp_path, {"file": str(file)})
        assert line.startswith("ami.secret: ")
        assert problem in line

    def test_missing(self, tmp_path: Path) -> None:
        assert refused(tmp_path, {"file": "/nowhere/secret"}) == (
            "ami.secret: /nowhere/secret: no such file or directory: "
            "create it, readable by the service's user, mode 0600"
        )

    def test_directory_or_pipe(self, tmp_path: Path) -> None:
        assert "is a directory" in refused(tmp_path, {"file": str(tmp_path)})
        os.mkfifo(tmp_path / "pipe")
        assert "is no regular file" in refused(tmp_path, {"file": str(tmp_path / "pipe")})

    @pytest.mark.parametrize("name", ["secret", "./secret", TREASURE, ""])
    def test_relative(self, tmp_path: Path, name: str) -> None:
        line = refused(tmp_path, {"file": name})
        assert line == 'ami.secret: the secret\'s file is no absolute path: give {"file": "/path"}'


class TestFromCredential:
    @pytest.fixture
    def given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """What systemd hands to the service."""
        directory = tmp_path / "credentials"
        directory.mkdir()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
        return directory

    @pytest.fixture
    def kept(self, tmp_path: Path) -> Path:
        """Where the credentials come from: beside the configuration."""
        directory = tmp_path / "secrets"
        directory.mkdir()
        return directory

    def read(self, directory: Path) -> str:
        return loaded(directory, with_ami_secret({"credential": "ami_secret"})).ami.secret.get_secret_value()

    def test_is_what_systemd_gives(self, tmp_path: Path, given: Path, kept: Path) -> None:
        (given / "ami_secret").write_text("given\n")
        (kept / "ami_secret").write_text("kept\n")
        assert self.read(tmp_path) == "given"

    def test_is_read_beside_the_configuration_where_systemd_gives_none(
        self, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        (kept / "ami_secret").write_text("kept\n")
        assert self.read(tmp_path) == "kept"

    def test_credentials_of_another_service_are_none(self, tmp_path: Path, given: Path, kept: Path) -> None:
        (given / "ssh.key").write_text("foreign")
        (kept / "ami_secret").write_text("kept")
        assert self.read(tmp_path) == "kept"

    def test_missing_and_empty(self, tmp_path: Path, kept: Path) -> None:
        missing = refused(tmp_path, {"credential": "ami_secret"})
        assert missing.startswith(f"ami.secret: {kept}/ami_secret: no such file or directory: ")
        (kept / "ami_secret").touch()
        assert refused(tmp_path, {"credential": "ami_secret"}) == (
            f"ami.secret: the secret is empty: write it into {kept}/ami_secret, alone and in one line"
        )

    @pytest.mark.parametrize("name", ["", "../config.json", "a/b", "Ä", TREASURE])
    def test_what_is_no_name_is_not_repeated(self, tmp_path: Path, name: str) -> None:
        line = refused(tmp_path, {"credential": name})
        assert line == "ami.secret: no name of a credential: use small letters, digits and _"


class TestFromEnvironment:
    def test_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ITGRIX_TEST_SECRET", "environmental")
        config = loaded(tmp_path, with_ami_secret({"env": "ITGRIX_TEST_SECRET"}))
        assert config.ami.secret.get_secret_value() == "environmental"

    @pytest.mark.parametrize(
        ("value", "problem"), [(None, "is not set"), ("", "is empty"), ("a\nb", "several lines"), ("\udcff", "control")]
    )
    def test_unusable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, problem: str) -> None:
        if value is None:
            monkeypatch.delenv("ITGRIX_TEST_SECRET", raising=False)
        else:
            monkeypatch.setenv("ITGRIX_TEST_SECRET", value)
        assert problem in refused(tmp_path, {"env": "ITGRIX_TEST_SECRET"})

    def test_what_is_no_name_is_not_repeated(self, tmp_path: Path) -> None:
        line = refused(tmp_path, {"env": TREASURE})
        assert line == "ami.secret: no name of an environment variable: use capital letters, digits and _"


class TestForm:
    @pytest.mark.parametrize(
        ("secret", "problem"),
        [
            ("", "the secret is empty"),
            ("   ", "the secret is empty"),
            (12345678, "a number where a secret is wanted"),
            (None, "null where a secret is wanted"),
            ([TREASURE], "a list where a secret is wanted"),
            ({}, "an object that is neither a credential nor a file nor a variable"),
            ({"path": TREASURE}, "an object that is neither a credential nor a file nor a variable"),
            ({"file": "/a", "env": "B"}, "an object with more than a credential, a file or a variable alone"),
            ({"credential": 5}, "the credential, file or variable is not named by text"),
            ({"file": 5}, "the credential, file or variable is not named by text"),
        ],
    )
    def test_others_are_refused_with_the_forms_there_are(self, tmp_path: Path, secret: object, problem: str) -> None:
        assert refused(tmp_path, secret) == (
            f'ami.secret: {problem}: give text, {{"credential": "name"}}, {{"file": "/path"}} or {{"env": "NAME"}}'
        )


class TestShownNowhere:
    def test_in_no_rendering_of_the_configuration(self, tmp_path: Path) -> None:
        config = loaded(tmp_path, DOCUMENT)
        for shown in (
            repr(config),
            str(config),
            str(config.model_dump()),
            str(config.model_dump(mode="json")),
            config.model_dump_json(),
            json.dumps(json_schema()),
            "\n".join(config.warnings()),
            f"{config.database}",
        ):
            assert TREASURE not in shown

    def test_still_there_for_those_who_ask(self, tmp_path: Path) -> None:
        config = loaded(tmp_path, DOCUMENT)
        assert config.database is not None
        assert config.database.url.get_secret_value().endswith(f":{TREASURE}@127.0.0.1/asteriskcdrdb")
        assert config.http.admin.password is not None
        assert config.http.admin.password.get_secret_value() == TREASURE

    @pytest.mark.parametrize(
        ("section", "key", "secret", "shown"),
        [
            ("ami", "secret", "Pw-of-ami-1", "Pw-of-ami-1"),
            ("database", "url", "mysql+asyncmy://user:Pw%2Fof-db-2@127.0.0.1/cdr", "Pw/of-db-2"),
            ("database", "url", "mysql+asyncmy://user:Pw%2Fof-db-3@127.0.0.1/cdr", "Pw%2Fof-db-3"),
        ],
    )
    def test_hidden_in_the_log_once_loaded(
        self, tmp_path: Path, section: str, key: str, secret: str, shown: str
    ) -> None:
        document = copy.deepcopy(DOCUMENT)
        document[section][key] = secret
        loaded(tmp_path, document)
        assert shown not in log.masked(f"failed with {shown}!")
        assert log.masked("failed with something") == "failed with something"

    def test_a_refused_database_address_is_hidden_too(self, tmp_path: Path) -> None:
        document = copy.deepcopy(DOCUMENT)
        document["database"]["url"] = "mysql://user:Pw-of-db-4@127.0.0.1/cdr"
        with pytest.raises(ConfigError) as caught:
            loaded(tmp_path, document)
        assert "Pw-of-db-4" not in str(caught.value)
        assert "Pw-of-db-4" not in log.masked("Pw-of-db-4")


def test_an_address_without_password_needs_no_hiding(tmp_path: Path) -> None:
    config = loaded(tmp_path, DOCUMENT)
    assert log.masked(config.storage.url.get_secret_value()) == config.storage.url.get_secret_value()


def test_a_token_logged_by_accident_is_masked(tmp_path: Path) -> None:
    loaded(tmp_path, with_ami_secret("accident-prone-55"))
    stream = io.StringIO()
    root = logging.getLogger()
    former_level, former_handlers = root.level, list(root.handlers)
    try:
        log.configure("info", "json", stream=stream)
        logging.getLogger("panoramisk").warning("Action: Login Secret: %s", "accident-prone-55")
    finally:
        root.handlers[:] = former_handlers
        root.setLevel(former_level)
    assert "accident-prone-55" not in stream.getvalue()
    assert log.MASK in stream.getvalue()
