"""The systemd units, as far as systemd's own tools judge them without running them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[1] / "systemd"
EXAMPLE = Path(__file__).parents[1] / "etc/itgrix_amo/config.json"

DAEMON = "itgrix_amo.service"
HOOKS = "itgrix_amo_hooks.service"


@pytest.fixture(scope="module", autouse=True)
def _systemd_analyze() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze not found: apt-get install systemd", pytrace=False)


def lines_of(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def exposure(unit: str) -> float:
    """systemd's own mark, from 0 (nothing can be harmed) to 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", UNITS / unit],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


def test_the_daemon_is_hardly_exposed() -> None:
    assert exposure(DAEMON) <= 1.5


def test_the_customizations_are_looser_but_not_loose() -> None:
    assert exposure(DAEMON) < exposure(HOOKS) <= 2.0


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for unit in (DAEMON, HOOKS):
        text = (UNITS / unit).read_text().replace("/opt/itgrix_amo/venv/bin/itgrix-kommo", "/bin/true")
        (tmp_path / unit).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / DAEMON, tmp_path / HOOKS],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_customizations_run_as_another_user_to_whom_secrets_do_not_exist() -> None:
    assert lines_of(DAEMON, "User") == ["itgrix_amo"]
    assert lines_of(HOOKS, "User") == ["itgrix_amo_hooks"]
    hidden = lines_of(HOOKS, "InaccessiblePaths")[0].split()
    assert {"-/etc/itgrix_amo", "-/var/lib/itgrix_amo", "-/etc/asterisk"} <= set(hidden)


def test_customizations_may_be_of_asterisks_group_and_yet_run_nothing_as_asterisk() -> None:
    """FreePBX lets the group write its scripts; a call file may name any program."""
    assert {"-/var/spool/asterisk/outgoing", "-/run/asterisk"} <= set(lines_of(HOOKS, "InaccessiblePaths")[0].split())
    assert {"-/var/lib/asterisk", "-/var/www"} <= set(lines_of(HOOKS, "ReadOnlyPaths")[0].split())


def test_every_secret_of_the_example_is_a_credential_of_the_unit() -> None:
    loaded = dict(line.split(":") for line in lines_of(DAEMON, "LoadCredential"))
    assert {f"/etc/itgrix_amo/secrets/{name}" for name in loaded} == set(loaded.values())
    wanted = set(re.findall(r'{"credential": "(\w+)"}', EXAMPLE.read_text()))
    assert wanted <= set(loaded)


def test_the_example_asks_the_host_that_the_unit_starts() -> None:
    socket = json.loads(EXAMPLE.read_text())["customizations"]["socket"]
    assert lines_of(HOOKS, "ExecStart")[0].endswith(f"--socket {socket}")
    assert lines_of(HOOKS, "RuntimeDirectory") == [Path(socket).parent.name]
