"""Which files are customizations, and which directories can't be used."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from itgrix_kommo.config import Customizations
from itgrix_kommo.customizations import Customizer, HookFile, Kind, find
from itgrix_kommo.errors import HooksUnusable, Remedy
from tests.hook_files import params, running, write

SAY_NO = "def need_registration(params):\n    return {'state': 'success', 'data': {'result': False}}\n"


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory of a user without rights, who this process is meanwhile: for root nothing is unreadable."""
    with tempfile.TemporaryDirectory() as path:
        if os.geteuid() != 0:
            yield Path(path)
            return
        os.chown(path, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(path)
        finally:
            os.seteuid(0)


class TestFinding:
    def test_finds_a_file_of_each_kind_by_name(self, tmp_path: Path) -> None:
        for name in ("need_registration.php", "process_client_phone.py", "post_registration.sh", "process_call_params"):
            write(tmp_path / name, "")
        for name in ("common.php", "notes.txt", "need_registration.php.bak", "need_registration.php~", ".hidden.php"):
            write(tmp_path / name, "")
        (tmp_path / "__pycache__").mkdir()
        found = find(tmp_path)
        assert found.files == {
            "need_registration": HookFile("need_registration", tmp_path / "need_registration.php", Kind.PHP),
            "post_registration": HookFile("post_registration", tmp_path / "post_registration.sh", Kind.EXECUTABLE),
            "process_call_params": HookFile("process_call_params", tmp_path / "process_call_params", Kind.EXECUTABLE),
            "process_client_phone": HookFile("process_client_phone", tmp_path / "process_client_phone.py", Kind.PYTHON),
        }
        assert (found.errors, found.warnings) == ((), ())

    def test_two_files_for_one_customization_are_an_error(self, tmp_path: Path) -> None:
        write(tmp_path / "need_registration.php", "")
        write(tmp_path / "need_registration.py", "")
        found = find(tmp_path)
        assert found.files == {}
        (error,) = found.errors
        assert error == (
            f"{tmp_path}/need_registration.py: a second file for need_registration, "
            "beside need_registration.php: remove one of them"
        )

    def test_symbolic_links_may_not_lead_out(self, tmp_path: Path) -> None:
        inside = tmp_path / "actions"
        inside.mkdir()
        outside = write(tmp_path / "need_registration.php", "")
        (inside / "need_registration.php").symlink_to(outside)
        write(inside / "phones.php", "")
        (inside / "process_client_phone.php").symlink_to("phones.php")
        (inside / "post_registration.php").symlink_to("nowhere.php")
        leads_out, leads_nowhere = find(inside).errors
        assert leads_out.startswith(
            f"{inside}/need_registration.php: a symbolic link out of the directory, to {outside}"
        )
        assert leads_nowhere == f"{inside}/post_registration.php: a symbolic link that leads nowhere: remove it"

    def test_the_directory_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "v2").mkdir()
        write(tmp_path / "v2" / "need_registration.php", "")
        (tmp_path / "current").symlink_to("v2")
        assert list(find(tmp_path / "current").files) == ["need_registration"]

    def test_programs_need_the_run_bit(self, tmp_path: Path) -> None:
        write(tmp_path / "need_registration.sh", "").chmod(0o644)
        assert find(tmp_path).errors == (f"{tmp_path}/need_registration.sh: not executable: chmod +x it",)

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "need_registration").mkdir()
        assert find(tmp_path).errors == (f"{tmp_path}/need_registration: no file: remove it or rename it",)

    def test_warns_of_misspelt_names(self, tmp_path: Path) -> None:
        write(tmp_path / "Need_registraton.php", "")
        assert find(tmp_path).warnings == (
            f"{tmp_path}/Need_registraton.php: no customization has this name: did you mean need_registration.php?",
        )

    def test_warns_of_a_directory_that_everybody_may_write(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        assert find(tmp_path).warnings[0].endswith("chmod o-w it")

    def test_a_missing_directory_holds_no_customizations(self, tmp_path: Path) -> None:
        found = find(tmp_path / "none")
        assert (found.files, found.errors) == ({}, ())
        assert found.warnings == (f"{tmp_path}/none: no such directory: create it, or no customization runs",)

    def test_a_file_is_no_directory(self, tmp_path: Path) -> None:
        file = write(tmp_path / "actions.txt", "")
        assert find(file).errors == (f"{file}: no directory: give one in customizations.directory",)

    def test_an_unreadable_directory_says_so(self, nobodys: Path) -> None:
        nobodys.chmod(0o000)
        assert find(nobodys).errors == (
            f"{nobodys}: can't be read (Permission denied): let the service's user read and enter it",
        )

    def test_an_unreadable_file_says_so(self, nobodys: Path) -> None:
        write(nobodys / "need_registration.php", "").chmod(0o000)
        assert find(nobodys).errors == (
            f"{nobodys}/need_registration.php: can't be read: let the service's user read it",
        )


class TestStart:
    async def test_refuses_an_unusable_directory(self, tmp_path: Path) -> None:
        files = {"need_registration.py": SAY_NO, "need_registration.sh": ""}
        (tmp_path / "post_registration").mkdir()
        with pytest.raises(HooksUnusable) as caught:
            async with running(tmp_path, files):
                pytest.fail("it started")
        assert caught.value.remedy is Remedy.PERSON
        assert [line.rpartition(": ")[2] for line in str(caught.value).splitlines()] == [
            "remove one of them",
            "remove it or rename it",
        ]

    async def test_goes_without_a_directory(self, tmp_path: Path) -> None:
        async with running(tmp_path / "none") as customizer:
            verdict = await customizer.call("need_registration", params("need_registration"))
            assert (verdict.data, verdict.answer) == ({"result": True}, None)
            assert customizer.status()["problems"] == [
                f"{tmp_path}/none: no such directory: create it, or no customization runs"
            ]

    async def test_switched_off_nothing_runs(self, tmp_path: Path) -> None:
        async with running(tmp_path, {"need_registration.py": SAY_NO}, enabled=False) as customizer:
            assert (await customizer.call("need_registration", params("need_registration"))).data == {"result": True}
            assert customizer.hooks == ()
            assert customizer.status()["enabled"] is False

    async def test_single_customizations_are_switched_off_by_name(self, tmp_path: Path) -> None:
        async with running(tmp_path, {"need_registration.py": SAY_NO}, disabled=["need_registration"]) as customizer:
            assert (await customizer.call("need_registration", params("need_registration"))).data == {"result": True}
            assert customizer.status()["methods"]["need_registration"] is False

    async def test_files_that_come_and_go_are_noticed(self, tmp_path: Path) -> None:
        async with running(tmp_path) as customizer:
            assert customizer.hooks == ()
            write(tmp_path / "need_registration.py", SAY_NO)
            await customizer.look_again()
            assert customizer.status()["methods"]["need_registration"] is True
            assert (await customizer.call("need_registration", params("need_registration"))).data == {"result": False}
            (tmp_path / "need_registration.py").unlink()
            await customizer.look_again()
            assert customizer.hooks == ()

    async def test_they_are_noticed_unasked(self, tmp_path: Path) -> None:
        async with running(tmp_path) as customizer:
            write(tmp_path / "need_registration.py", SAY_NO)
            async with asyncio.timeout(30):
                while "need_registration" not in customizer.hooks:
                    await asyncio.sleep(0.05)

    async def test_a_directory_that_was_unusable_at_the_start_is_looked_at_again(self, tmp_path: Path) -> None:
        for name in ("need_registration.py", "need_registration.php"):
            write(tmp_path / name, SAY_NO)
        customizer = Customizer(Customizations.model_validate({"directory": str(tmp_path)}))
        try:
            with pytest.raises(HooksUnusable):
                await customizer.start()
            (tmp_path / "need_registration.php").unlink()
            async with asyncio.timeout(30):
                while "need_registration" not in customizer.hooks:
                    await asyncio.sleep(0.05)
        finally:
            await customizer.stop()

    async def test_switched_on_later_they_are_found(self, tmp_path: Path) -> None:
        async with running(tmp_path, {"need_registration.py": SAY_NO}, enabled=False) as customizer:
            customizer.use(Customizations.model_validate({"directory": str(tmp_path)}))
            async with asyncio.timeout(30):
                while "need_registration" not in customizer.hooks:
                    await asyncio.sleep(0.05)
            customizer.use(Customizations.model_validate({"directory": str(tmp_path), "enabled": False}))
            assert customizer.hooks == ()

    async def test_a_directory_that_becomes_unusable_leaves_the_former_files_at_work(self, tmp_path: Path) -> None:
        async with running(tmp_path, {"need_registration.py": SAY_NO}) as customizer:
            write(tmp_path / "need_registration.sh", "")
            await customizer.look_again()
            assert "a second file for need_registration" in customizer.problems[0]
            assert (await customizer.call("need_registration", params("need_registration"))).data == {"result": False}
