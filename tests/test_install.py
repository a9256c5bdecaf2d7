"""The installer on a PBX's host: a Debian with Asterisk 22 and without systemd."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.installer.places import BLOCK, system, with_block, without_block
from tests.pbx_host import SOURCE, PbxHost, entered, free_port

pytestmark = pytest.mark.xdist_group("install")

TOKEN = "token-of-kommo-that-nobody-may-see"
WITHIN = 90.0
KOMMO = "http://127.0.0.1:1"
GIVEN = ("--kommo", KOMMO, "--employee", "9100001=101")


def changes(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith(("  +", "  ~"))]


@pytest.fixture(scope="module")
def fresh() -> Iterator[PbxHost]:
    """Nothing is installed. Tests leave it as it is."""
    with entered() as host:
        yield host


@pytest.fixture(scope="module")
def installation() -> Iterator[tuple[str, Path, int]]:
    """What an installation told, the layer of its files, and the AMI's port that Asterisk's configuration names."""
    port = free_port()
    with entered() as host:
        host.shell(f"sed -i 's/^port = 5038/port = {port}/' /etc/asterisk/manager.conf")
        host.shell("printf '[modules]\\nautoload = no\\n' > /etc/asterisk/modules.conf")
        # A careful root's umask is no reason for a program that its service may not read.
        words = 'umask 077; exec /source/scripts/install "$@"'
        told = host.run("sh", "-c", words, "install", "--no-packages", "--token-stdin", *GIVEN, stdin=TOKEN).told
        host.stop()
        yield told, host.upper, port


@pytest.fixture
def host(installation: tuple[str, Path, int]) -> Iterator[PbxHost]:
    """It is installed; what the test does to it is gone afterwards."""
    with entered(over=[installation[1]]) as host:
        yield host


def config_of(host: PbxHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.run("cat", "/etc/itgrix_amo/config.json").told)
    return found


def configure(host: PbxHost, **sections: dict[str, Any]) -> None:
    config = config_of(host)
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    host.run("tee", "/etc/itgrix_amo/config.json", stdin=json.dumps(config))


class TestDryRun:
    def test_prints_every_step_and_changes_nothing(self, fresh: PbxHost) -> None:
        look = "find /etc /opt /usr /var/lib -newer /tmp/mark; getent passwd itgrix_amo || true"
        fresh.shell("touch /tmp/mark; sleep 0.01")
        told = fresh.install("--dry-run", *GIVEN, token=TOKEN).told
        assert fresh.shell(look) == ""
        assert TOKEN not in told
        for step in ("useradd", "-m venv", "--require-hashes", "manager.d/itgrix.conf", "config.json", "by hand"):
            assert step in told
        assert '"base_url": "http://127.0.0.1:1"' in told
        assert told.endswith("A dry run: nothing was changed.\n")


class TestInstallation:
    def test_runs_to_its_end_and_tells_no_secret(self, installation: tuple[str, Path, int], host: PbxHost) -> None:
        told = installation[0]
        assert told.endswith("Installed. The configuration is /etc/itgrix_amo/config.json.\n")
        secrets = host.shell("cat /etc/itgrix_amo/secrets/*").split()
        assert TOKEN in secrets
        assert len(secrets) == 3  # that, and two that were made
        assert not [secret for secret in secrets if secret in told]

    def test_rights_are_no_wider_than_needed(self, host: PbxHost) -> None:
        shown = host.shell("cd /etc/itgrix_amo; stat -c '%a %U:%G %n' . config.json secrets secrets/*").splitlines()
        assert shown[:3] == ["750 root:itgrix_amo .", "640 root:itgrix_amo config.json", "750 root:itgrix_amo secrets"]
        assert {line.rsplit(" ", 1)[0] for line in shown[3:]} == {"640 root:itgrix_amo"}
        assert host.shell("stat -c '%a %U' /etc/asterisk/manager.d/itgrix.conf") == "600 asterisk\n"
        assert host.shell("stat -c '%a %U' /var/lib/itgrix_amo") == "750 itgrix_amo\n"
        groups = set(host.shell("id -nG itgrix_amo").split())
        assert groups == {"itgrix_amo", "itgrix_amo_hooks", "asterisk"}
        assert set(host.shell("id -nG itgrix_amo_hooks").split()) == {"itgrix_amo_hooks", "asterisk"}

    def test_the_command_is_on_the_path_and_the_configuration_can_be_used(self, host: PbxHost) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", host.run("itgrix-kommo", "version").told)
        assert "can be used" in host.run("itgrix-kommo", "config", "check").told

    def test_a_second_run_changes_nothing(self, host: PbxHost) -> None:
        host.shell("touch /tmp/mark; sleep 0.01")
        assert changes(host.install().told) == []
        assert host.shell("find /etc /opt /var/lib -newer /tmp/mark -type f") == ""


class TestKept:
    def test_an_upgrade_keeps_what_was_configured(self, host: PbxHost) -> None:
        configure(host, node={"name": "mine"})
        host.shell("chmod 666 /etc/itgrix_amo/config.json")
        before = config_of(host)
        told = host.install("--kommo", "https://other.kommo.com").told
        assert config_of(host) == before
        assert "other than given" in told
        assert "other than given" not in host.install(*GIVEN).told
        assert host.shell("stat -c %a /etc/itgrix_amo/config.json") == "640\n"

    def test_a_manager_user_of_ones_own_is_left_alone(self, host: PbxHost) -> None:
        configure(host, ami={"username": "mine", "secret": "by-hand-123"})
        host.shell("rm /etc/asterisk/manager.d/itgrix.conf")
        assert "names another one: nothing is written" in host.install().told
        host.shell("test ! -e /etc/asterisk/manager.d/itgrix.conf")

    def test_the_vendors_configuration_is_taken_over_and_kept_beside(self, host: PbxHost) -> None:
        database = {"host": "127.0.0.1", "user": "u", "password": "of-the-pbx", "database": "asteriskcdrdb"}
        vendors = {"database": database, "admin": {"login": "chief", "password": "of-the-chief"}}
        host.run("tee", "/etc/itgrix_amo/config.json", stdin=json.dumps(vendors))
        told = host.install(*GIVEN).told
        config = config_of(host)
        assert config["ami"]["secret"] == {"credential": "ami_secret"}
        assert config["kommo"]["base_url"] == KOMMO
        assert config["http"]["admin"] == {"login": "chief", "password": {"credential": "admin_password"}}
        assert config["database"]["url"] == {"credential": "pbx_database_url"}
        assert "of-the" not in told + json.dumps(config)
        secrets = host.shell("cd /etc/itgrix_amo/secrets; cat admin_password pbx_database_url").splitlines()
        assert secrets == ["of-the-chief", "mysql+asyncmy://u:of-the-pbx@127.0.0.1/asteriskcdrdb"]
        assert host.shell("stat -c %a /etc/itgrix_amo/secrets/pbx_database_url /etc/itgrix_amo/config.json.vendor") == (
            "640\n640\n"
        )
        assert json.loads(host.run("cat", "/etc/itgrix_amo/config.json.vendor").told) == vendors
        assert "can be used" in host.run("itgrix-kommo", "config", "check").told


class TestHalfInstalled:
    def test_whatever_is_missing_is_made_again(self, host: PbxHost) -> None:
        host.shell("rm /etc/itgrix_amo/secrets/admin_password /opt/itgrix_amo/venv /usr/local/bin/itgrix-kommo")
        host.shell("gpasswd -d itgrix_amo asterisk; rm -r /var/lib/itgrix_amo; mkdir /opt/itgrix_amo/versions/half")
        told = host.install().told
        assert len(changes(told)) == 6
        assert "+ remove /opt/itgrix_amo/versions/half" in told
        assert changes(host.install().told) == []

    def test_an_upgrade_that_fails_leaves_the_former_version(self, host: PbxHost) -> None:
        former = host.run("readlink", "/opt/itgrix_amo/venv").told
        host.shell("mkdir /new; cd /source; cp -r README.md LICENSE pyproject.toml requirements.lock /new")
        host.shell(
            "cp -r /source/itgrix_kommo /source/scripts /source/systemd /new; echo '#' >> /new/itgrix_kommo/app.py"
        )
        environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
        failed = host.run("/new/scripts/install", "--no-packages", environment=environment, fine=False)
        assert failed.code == 1
        assert "Mend that and run the installer again: it goes on from here" in failed.told
        assert host.run("readlink", "/opt/itgrix_amo/venv").told == former
        host.run("itgrix-kommo", "version")
        assert [line for line in changes(host.install().told) if "remove" not in line] == []


class TestRefused:
    def refusal(self, host: PbxHost, python: str = "") -> str:
        done = host.install(fine=False, python=python)
        assert done.code == 1, done.told
        return done.told.strip().splitlines()[-1]

    @pytest.mark.parametrize(
        ("release", "remedy"),
        [
            ("ID=ubuntu\nID_LIKE=debian", "apt-get update && apt-get install python3.11 python3.11-venv"),
            ("ID=debian", "apt-get update && apt-get install python3.11 python3.11-venv"),
            ('ID="rocky"\nID_LIKE="rhel centos fedora"', "dnf install python3.11"),
            ("ID=arch", "install it as your distribution does"),
        ],
    )
    def test_a_python_that_is_too_old(self, host: PbxHost, release: str, remedy: str) -> None:
        host.run("tee", "/etc/os-release", stdin=release)
        assert self.refusal(host, python="/bin/false") == (
            "✗ Python 3.11 or later is needed and was not found. Run this, then the installer again: " + remedy
        )

    def test_an_unknown_system(self, host: PbxHost) -> None:
        host.run("tee", "/etc/os-release", stdin="ID=arch\n")
        assert "neither a Debian nor a RHEL family" in self.refusal(host)

    def test_a_host_without_asterisk(self, host: PbxHost) -> None:
        host.shell("rm /etc/asterisk/manager.conf")
        assert "install on the host that Asterisk runs on" in self.refusal(host)

    def test_a_full_disk(self, host: PbxHost) -> None:
        host.shell("mount -t tmpfs -o size=4m tmpfs /opt")
        assert "/opt has 4 MiB left, 600 are needed: make room there" in self.refusal(host)

    def test_a_disk_that_fills_up_meanwhile(self, host: PbxHost) -> None:
        host.shell(
            "mount -t tmpfs -o size=64k tmpfs /etc/itgrix_amo; head -c 100k /dev/zero > /etc/itgrix_amo/x || true"
        )
        told = self.refusal(host)
        assert re.search(r"✗ /\S+: No space left on device: mend that and run the installer again\Z", told)
        host.shell("umount /etc/itgrix_amo")
        assert changes(host.install().told) == []

    def test_a_read_only_directory(self, host: PbxHost) -> None:
        host.shell("mount --bind /etc/asterisk /etc/asterisk; mount -o remount,ro,bind /etc/asterisk")
        assert "/etc/asterisk can't be written: is its file system mounted read-only?" in self.refusal(host)

    def test_a_clock_before_this_version(self, host: PbxHost) -> None:
        host.shell("mkdir /new; cp -r /source/scripts /source/pyproject.toml /source/README.md /new")
        host.shell("touch -d '+3 days' /new/README.md")
        done = host.run("/new/scripts/install", fine=False)
        assert done.code == 1
        assert "before this version was made" in done.told

    def test_a_python_that_the_service_may_not_run(self, host: PbxHost) -> None:
        host.shell("mkdir -m 700 /private; cp /usr/bin/python3 /private")
        assert "who may not enter /private: give a Python of the system" in self.refusal(
            host, python="/private/python3"
        )

    def test_another_installer_at_work(self, host: PbxHost) -> None:
        done = host.run("flock", "/etc", "/source/scripts/install", "--no-packages", fine=False)
        assert done.code == 1
        assert "another installer is at work on this host" in done.told

    @pytest.mark.parametrize("config", ["", "{", "[]", '{"ami": [], "http": 5}', '{"kommo": 1, "http": {"port": "x"}}'])
    def test_a_broken_configuration_is_kept_and_told(self, host: PbxHost, config: str) -> None:
        host.run("tee", "/etc/itgrix_amo/config.json", stdin=config)
        told = host.install(check=True).told
        assert "/etc/itgrix_amo/config.json is kept as it is" in told
        assert "✗" in told.split("Is everything there?")[1]
        assert host.run("cat", "/etc/itgrix_amo/config.json").told == config

    def test_a_port_in_use_is_named(self, host: PbxHost) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            configure(host, http={"port": port})
            assert f"! port {port} at 127.0.0.1: Address already in use" in host.install().told

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("--employee", "Ann", "'Ann' is no employee"),
            ("--kommo", "acme", "'acme' is no address of a Kommo account"),
            ("--token-file", "/nowhere", "/nowhere: No such file or directory"),
        ],
    )
    def test_options_that_mean_nothing(self, fresh: PbxHost, option: str, value: str, words: str) -> None:
        done = fresh.install("--dry-run", option, value, fine=False)
        assert done.code == 1
        assert words in done.told


class TestOtherHosts:
    def test_rhel_is_served_by_dnf(self, host: PbxHost) -> None:
        host.run(
            "tee", "/etc/os-release", stdin='PRETTY_NAME="Rocky Linux 9.5"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
        )
        told = host.run("/source/scripts/install", "--dry-run").told
        assert "= Rocky Linux 9.5, Asterisk" in told
        assert "~ would: ffmpeg: dnf install -y ffmpeg-free" in told

    def test_php_is_wanted_where_php_customizations_are(self, host: PbxHost) -> None:
        host.shell("touch /opt/itgrix_amo/customizer/actions/post_registration.php")
        told = host.run("/source/scripts/install", "--dry-run").told
        assert "PHP for the customizations: apt-get install -y --no-install-recommends php-cgi" in told

    @pytest.mark.parametrize("freepbx", [True, False], ids=["FreePBX", "a manager.conf without manager.d"])
    def test_the_manager_user_is_included_and_taken_out_again(self, host: PbxHost, *, freepbx: bool) -> None:
        including = "/etc/asterisk/manager_custom.conf" if freepbx else "/etc/asterisk/manager.conf"
        if freepbx:
            host.shell(f"touch /etc/freepbx.conf; printf '[other]\\nsecret = x' > {including}")
        else:
            host.shell(f"printf '[general]\\nenabled = no\\n' > {including}")
        host.shell("rm /etc/asterisk/manager.d/itgrix.conf")
        before = host.run("cat", including).told
        told = host.install().told
        assert ("manager interface is off: set enabled = yes" in told) is not freepbx
        assert host.run("cat", including).told.endswith(f"{BLOCK[0]}\n#include itgrix_manager.conf\n{BLOCK[1]}\n")
        assert "[itgrix]" in host.run("cat", "/etc/asterisk/itgrix_manager.conf").told
        assert changes(host.install().told) == []
        host.run("/source/scripts/uninstall")
        assert host.run("cat", including).told.rstrip("\n") == before.rstrip("\n")
        host.shell("test ! -e /etc/asterisk/itgrix_manager.conf")

    def test_a_systemd_that_does_not_run_is_prepared_and_the_command_starts_by_hand(self, host: PbxHost) -> None:
        host.shell(
            "mkdir -p /etc/systemd/system; printf '#!/bin/sh\n' > /usr/bin/systemctl; chmod +x /usr/bin/systemctl"
        )
        host.shell("rm /etc/itgrix_amo/config.json")
        told = host.install(*GIVEN).told
        assert "systemd, not running here" in told
        host.shell("ls /etc/systemd/system/itgrix_amo.service /etc/systemd/system/itgrix_amo_hooks.service")
        assert config_of(host)["customizations"] == {"socket": "/run/itgrix_amo_hooks/socket"}
        assert "can be used" in host.run(*as_user("itgrix_amo"), "itgrix-kommo", "config", "check").told
        host.run("/source/scripts/uninstall")
        assert host.shell("find /etc/systemd -name 'itgrix*'") == ""


class TestUninstall:
    DATA = "/etc/itgrix_amo/config.json /var/lib/itgrix_amo /opt/itgrix_amo/customizer/actions"

    def test_keeps_the_data_unless_told(self, host: PbxHost) -> None:
        host.run("/source/scripts/uninstall", "--dry-run")
        assert changes(host.install().told) == []
        told = host.run("/source/scripts/uninstall").told
        assert "Kept: /etc/itgrix_amo" in told
        host.shell(f"ls {self.DATA}; getent passwd itgrix_amo")
        host.shell("test ! -e /opt/itgrix_amo/venv -a ! -e /usr/local/bin/itgrix-kommo")
        host.shell("test ! -e /etc/asterisk/manager.d/itgrix.conf")

    def test_purges_what_it_is_told_to(self, host: PbxHost) -> None:
        host.run("/source/scripts/uninstall", "--purge")
        left = "find /etc /opt /var /usr/local -name '*itgrix*'; getent passwd itgrix_amo itgrix_amo_hooks || true"
        assert host.shell(left) == ""
        host.run("/source/scripts/uninstall", "--purge")

    def test_misuse_is_told(self, fresh: PbxHost) -> None:
        assert fresh.run("/source/scripts/uninstall", "--everything", fine=False).code == 2


class TestAtWork:
    """The service's command, started by hand as its user, beside a real Asterisk with the manager user written."""

    def test_calls_are_captured(self, host: PbxHost) -> None:
        port = free_port()
        configure(host, http={"port": port})
        with asterisk(host), daemon(host) as (process, log):
            health = until_healthy(port, process, log)
            assert health["capturing_fault"] == ""
            shown = host.run("asterisk", "-rx", "manager show user itgrix").told
            assert "read perm: system,call" in shown
        assert '"filtered": false' not in log.read_text()
        assert "Asterisk limits us" not in log.read_text()

    def test_a_customization_reads_none_of_the_daemons_secrets(self, host: PbxHost) -> None:
        port = free_port()
        configure(host, http={"port": port}, customizations={
            "socket": "/run/itgrix_amo_hooks/socket", "timeouts": {"customize_autodistribution": 30},
        })  # fmt: skip
        host.shell("install -d -o itgrix_amo_hooks -g itgrix_amo_hooks -m 750 /run/itgrix_amo_hooks")
        actions = "/opt/itgrix_amo/customizer/actions"
        host.run("tee", f"{actions}/customize_autodistribution.py", stdin=ATTACK)
        words = ("itgrix-kommo", "hooks", "host", "--socket", "/run/itgrix_amo_hooks/socket")
        hosting = subprocess.Popen(host.command(*as_user("itgrix_amo_hooks"), *words))
        try:
            until(lambda: host.run("test", "-S", "/run/itgrix_amo_hooks/socket", fine=False).code == 0)
            with daemon(host) as (process, log):
                until_serving(port, process, log)
                asked = f"http://127.0.0.1:{port}/autodistribution?from=%2B7999{process.pid:07}&trunk=x"
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    assert answer.read() == b"101;Tried"
                found = json.loads(re.findall(r"TRIED (\{.*?\})", log.read_text().replace("\\", ""))[-1])
                script = f"{actions}/customize_autodistribution.py"
                may = json.loads(host.run(*as_user("itgrix_amo"), "python3", script, str(process.pid)).told[6:])
        finally:
            hosting.terminate()
            hosting.wait()
        assert set(found) == set(may)
        assert set(found.values()) == {"refused"}, found
        # The same attempts are no empty ones: the daemon's own user may do them.
        assert {name for name, outcome in may.items() if outcome == "refused"} <= {"ptrace", "memory", "manager"}


ATTACK = """
import ctypes, json, os, sys
from pathlib import Path

def tried(attempt):
    try:
        attempt()
    except OSError:
        return "refused"
    return "done"

def ptrace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, pid, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")

def attempts(pid):
    etc, state, process = Path("/etc/itgrix_amo"), Path("/var/lib/itgrix_amo"), Path(f"/proc/{pid}")
    return {
        "configuration": (etc / "config.json").read_bytes,
        "access": (etc / "secrets/kommo_access_token").read_bytes,
        "listing": lambda: list((etc / "secrets").iterdir()),
        "database": (state / "itgrix.db").read_bytes,
        "state": lambda: list(state.iterdir()),
        "manager": Path("/etc/asterisk/manager.d/itgrix.conf").read_bytes,
        "environment": (process / "environ").read_bytes,
        "memory": lambda: (process / "mem").open("rb").close(),
        "maps": (process / "maps").read_bytes,
        "files": lambda: list((process / "fd").iterdir()),
        "ptrace": lambda: ptrace(pid),
        "signal": lambda: os.kill(pid, 0),
    }

def outcomes(pid):
    return json.dumps({name: tried(attempt) for name, attempt in attempts(pid).items()})

def customize_autodistribution(params):
    print("TRIED", outcomes(int(params["from"][-7:])))
    return {"state": "success", "data": {"number": "101", "name": "Tried"}}

if __name__ == "__main__":
    print("TRIED", outcomes(int(sys.argv[1])))
"""


def until(condition: Any) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


@contextlib.contextmanager
def asterisk(host: PbxHost) -> Iterator[None]:
    process = subprocess.Popen(
        host.command("asterisk", "-f", "-n"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: host.run("asterisk", "-rx", "core waitfullybooted", fine=False).code == 0)
        yield
    finally:
        process.terminate()
        process.wait()


def as_user(name: str) -> list[str]:
    """What makes a command that user's, without a process in between; it dies with the one who started it."""
    return ["setpriv", "--reuid", name, "--regid", name, "--init-groups", "--pdeathsig", "SIGKILL"]


@contextlib.contextmanager
def daemon(host: PbxHost) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The service's command, and the file with its log."""
    log = host.root.parent / "daemon.log"
    with log.open("wb") as told:
        command = host.command(*as_user("itgrix_amo"), "/opt/itgrix_amo/venv/bin/itgrix-kommo", "run")
        process = subprocess.Popen(command, stdout=told, stderr=told)
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait()


def health_of(port: int) -> dict[str, Any] | None:
    """The body of /healthz, whatever its status; None while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return None
    found: dict[str, Any] = json.loads(body)
    return found


def until_serving(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    def serving() -> bool:
        assert process.poll() is None, log.read_text()
        return health_of(port) is not None

    until(serving)


def until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    until_serving(port, process, log)
    until(lambda: (health_of(port) or {}).get("status") == "ok")
    return health_of(port) or {}


class TestPlaces:
    @pytest.mark.parametrize(
        ("release", "family"),
        [
            ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian', "debian"),
            ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian', "debian"),
            ('NAME="AlmaLinux"\nID="almalinux"\nID_LIKE="rhel centos fedora"', "rhel"),
            ('NAME="Sangoma Linux"\nID="sangoma"\nID_LIKE="centos rhel fedora"', "rhel"),
            ("NAME=Fedora\nID=fedora", "rhel"),
        ],
    )
    def test_families(self, release: str, family: str) -> None:
        found = system(release)
        assert found is not None
        assert found.family == family

    @pytest.mark.parametrize("release", ["", "ID=arch", "rubbish\n\n=", "ID_LIKE=suse"])
    def test_what_is_neither(self, release: str) -> None:
        assert system(release) is None

    @pytest.mark.parametrize("text", ["", "[general]\n", "[a]\nb = c", "; itgrix-kommo\n", "[a]\n\n\n"])
    def test_a_block_is_added_once_and_taken_away(self, text: str) -> None:
        added = with_block(text, "#include x")
        assert with_block(added, "#include x") == added
        assert without_block(added).rstrip("\n") == text.rstrip("\n")


def test_the_shell_parts_are_sound() -> None:
    shell = shutil.which("dash") or "sh"
    for name in ("install", "uninstall"):
        assert subprocess.run([shell, "-n", SOURCE / "scripts" / name], check=False).returncode == 0
