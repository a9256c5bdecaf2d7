"""The original module's config.json, taken over into ours as far as it can be."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from itgrix_kommo.cli.main import commands
from itgrix_kommo.config import imported, load
from itgrix_kommo.errors import ConfigError

THEIRS: dict[str, Any] = {
    "port": 8078,
    "ami": {"host": "127.0.0.1", "port": 5039, "login": "itgrix", "password": "their-ami-secret"},
    "admin": {"login": "boss", "password": "their-admin-secret"},
    "database": {
        "type": "mysql",
        "host": "localhost",
        "port": 3306,
        "user": "freepbx",
        "password": "p@ss/word",
        "database": "asteriskcdrdb",
        "column_name_aliases": {"cel_extra": "eventextra", "nonsense": "x"},
    },
    "customizer": {"timeouts": {"process_record_file_path": 20}},
    "log": {"level": "very much"},
    "license": "AAAA-BBBB",
}


def vendors(directory: Path, document: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(document))
    return path


class TestWhatIsTaken:
    def test_all_that_ours_has_a_place_for(self, tmp_path: Path) -> None:
        begun = imported(vendors(tmp_path, THEIRS))
        ours = json.loads(begun.text)
        assert ours["ami"] == {"host": "127.0.0.1", "port": 5039, "username": "itgrix", "secret": "their-ami-secret"}
        assert ours["http"]["port"] == 8078
        assert ours["http"]["admin"] == {"login": "boss", "password": "their-admin-secret"}
        assert ours["database"] == {
            "url": "mysql+asyncmy://freepbx:p%40ss%2Fword@localhost:3306/asteriskcdrdb",
            "column_name_aliases": {"cel_extra": "eventextra"},
        }
        assert ours["customizations"]["timeouts"] == {"process_record_file_path": 20}
        assert ("database.password", "database.url") in begun.taken

    def test_what_is_left_is_named(self, tmp_path: Path) -> None:
        left = imported(vendors(tmp_path, THEIRS)).left
        assert left == ("database.column_name_aliases.nonsense", "log.level", "license")

    def test_a_database_that_is_not_all_told_is_none(self, tmp_path: Path) -> None:
        begun = imported(vendors(tmp_path, {"database": {"host": "h", "column_name_aliases": {"cel_extra": "extra"}}}))
        assert "database" not in json.loads(begun.text)
        assert begun.taken == ()
        assert begun.left == ("database.host", "database.column_name_aliases.cel_extra")

    @pytest.mark.parametrize(("kind", "driver"), [("postgres", "postgresql+asyncpg"), ("mariadb", "mysql+asyncmy")])
    def test_the_kind_of_database(self, tmp_path: Path, kind: str, driver: str) -> None:
        database = {"driver": kind, "host": "h", "user": "u", "pass": "", "dbname": "d"}
        begun = imported(vendors(tmp_path, {"database": database}))
        assert json.loads(begun.text)["database"]["url"] == f"{driver}://u@h/d"

    def test_filled_in_it_can_be_used(self, tmp_path: Path) -> None:
        ours = json.loads(imported(vendors(tmp_path, THEIRS)).text)
        ours["kommo"] = {"base_url": "https://acme.kommo.com", "access_token": "a-long-lived-token"}
        ours["employees"] = []
        path = tmp_path / "ours.json"
        path.write_text(json.dumps(ours))
        config = load(path)
        assert (config.ami.username, config.http.port) == ("itgrix", 8078)
        assert config.database is not None


class TestRubbish:
    @pytest.mark.parametrize("document", [[], {}, {"ami": {}}, {"database": None}, {"kommo": {}, "database": {"a": 1}}])
    def test_what_is_no_file_of_theirs_is_refused(self, tmp_path: Path, document: object) -> None:
        with pytest.raises(ConfigError, match="no configuration of the vendor's connector"):
            imported(vendors(tmp_path, document))

    @given(
        st.dictionaries(
            st.sampled_from(["ami", "database", "admin", "http", "port", "log", "process_record_file_path", "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(
                            ["host", "port", "user", "password", "type", "level", "column_name_aliases", "ä"]
                        ),
                        inner,
                        max_size=4,
                    )
                ),
                max_leaves=8,
            ),
        )
    )
    def test_nothing_of_theirs_makes_ours_worse(
        self, tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
    ) -> None:
        path = vendors(tmp_path_factory.mktemp("theirs"), document)
        try:
            begun = imported(path)
        except ConfigError:
            return
        path.write_text(begun.text)
        with pytest.raises(ConfigError) as refused:
            load(path)
        # Only what the starting file itself asks for.
        assert {line.partition(":")[0] for line in str(refused.value).splitlines()} <= {
            "ami.username", "ami.secret", "kommo.base_url", "kommo.access_token",
            "employees[0].user_id", "employees[0].extension",
        }  # fmt: skip


class TestCommand:
    def test_in_their_place_their_file_is_kept(self, tmp_path: Path) -> None:
        path = vendors(tmp_path, THEIRS)
        theirs = path.read_text()
        done = CliRunner().invoke(commands, ["config", "import", str(path), "--output", str(path)])
        assert done.exit_code == 0, done.output
        assert "ami.password → ami.secret" in done.output
        assert "license: not taken over" in done.output
        assert "their-ami-secret" not in done.output
        assert (tmp_path / "config.json.vendor").read_text() == theirs
        assert "their-ami-secret" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0

    def test_a_copy_is_never_overwritten(self, tmp_path: Path) -> None:
        path = vendors(tmp_path, THEIRS)
        theirs = path.read_text()
        (tmp_path / "config.json.vendor").write_text("an older one")
        done = CliRunner().invoke(commands, ["config", "import", str(path), "--output", str(path)])
        assert done.exit_code == 1
        assert "exists already: nothing was changed" in done.output.replace("\n", " ")
        assert path.read_text() == theirs

    def test_another_place_that_is_taken_wants_force(self, tmp_path: Path) -> None:
        path, other = vendors(tmp_path, THEIRS), tmp_path / "other.json"
        other.write_text("{}")
        assert CliRunner().invoke(commands, ["config", "import", str(path), "-o", str(other)]).exit_code == 1
        assert other.read_text() == "{}"
        assert CliRunner().invoke(commands, ["config", "import", str(path), "-o", str(other), "--force"]).exit_code == 0
        assert "kommo" in json.loads(other.read_text())
