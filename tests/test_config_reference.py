"""Every key is explained in the README, shown in the example and known to the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.config import HOOKS, json_schema, load
from itgrix_kommo.config.reference import explained_keys, tables

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "etc" / "itgrix_amo" / "config.json"
KEYS = [key for key, _, _ in explained_keys()]


def keys_of(value: object, path: str = "") -> set[str]:
    """The paths that occur in a document, in the reference's notation."""
    found: set[str] = set()
    if isinstance(value, dict) and not set(value) & {"file", "env"}:
        for key, inner in value.items():
            found |= {f"{path}{key}"} | keys_of(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for inner in value:
            found |= keys_of(inner, f"{path.removesuffix('.')}[].")
    return found


@pytest.fixture(scope="module")
def chapter() -> str:
    found = re.search(
        r"^## Configuration\n(.*?)(?=^## |\Z)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, "README.md has no chapter '## Configuration'"
    return found[1]


class TestReadme:
    def test_explains_every_key_in_the_words_of_the_reference(self, chapter: str) -> None:
        explained = set(chapter.splitlines())
        assert [line for line in tables().splitlines() if line not in explained] == []

    def test_explains_no_key_that_does_not_exist(self, chapter: str) -> None:
        assert set(re.findall(r"^\| `([^`]+)` \|", chapter, re.MULTILINE)) == {key for key in KEYS if "." in key}


class TestExample:
    def test_loads_without_a_warning(self, tmp_path: Path) -> None:
        text = EXAMPLE.read_text()
        (tmp_path / "secrets").mkdir()
        for name in re.findall(r'{"credential": "(\w+)"}', text):
            file = tmp_path / "secrets" / name
            file.touch(mode=0o600)
            address = "mysql+asyncmy://user:password@127.0.0.1/asteriskcdrdb"
            file.write_text(f"{address if name == 'pbx_database_url' else 'secret-of-' + name}\n")
        path = tmp_path / "config.json"
        path.write_text(text)
        path.chmod(0o640)
        config = load(path)
        assert config.warnings() == []
        assert config.ami.secret.get_secret_value() == "secret-of-ami_secret"

    def test_shows_every_key(self) -> None:
        shown = keys_of(json.loads(EXAMPLE.read_text()))
        lists = {key for key in KEYS if key.startswith(("numbers.whitelist[]",))}  # the same as the blacklist's
        assert set(KEYS) - lists - shown == set()

    def test_holds_no_secret(self) -> None:
        document: dict[str, Any] = json.loads(EXAMPLE.read_text())
        assert isinstance(document["ami"]["secret"], dict)
        assert not re.search(r'"(?:\w*secret|\w*token|password)": "', EXAMPLE.read_text())


class TestSchema:
    def test_knows_every_key_and_what_it_is_for(self) -> None:
        schema = json_schema()
        sections = [schema, *schema["$defs"].values()]
        described = {
            (name, inner["description"])
            for section in sections
            for variant in [section, *section.get("anyOf", [])]
            for name, inner in variant.get("properties", {}).items()
            if "description" in inner
        }
        for key, _, description in explained_keys():
            assert (key.rpartition(".")[2], description) in described, key

    def test_refuses_unknown_keys(self) -> None:
        schema = json_schema()
        assert schema["additionalProperties"] is False
        assert schema["required"] == ["ami", "kommo"]

    def test_marks_secrets(self) -> None:
        secret = json_schema()["$defs"]["Ami"]["properties"]["secret"]
        assert secret["anyOf"][0] == {"type": "string", "format": "password", "writeOnly": True, "minLength": 1}


def test_every_key_has_a_sentence() -> None:
    assert [key for key, _, description in explained_keys() if not description.endswith(".")] == []


def test_there_are_thirteen_customizations() -> None:
    assert len(HOOKS) == 13
    assert set(HOOKS) >= {"need_registration", "post_registration", "process_unsorted_creation_params"}
