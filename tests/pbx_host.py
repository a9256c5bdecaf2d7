"""A PBX's host to install on: a Debian with Asterisk and Python in a chroot, thrown away after each test.

It is layered: the lab's root with Asterisk 22, Python's packages over it (kept in the cache), what an installation
wrote over that, and what the test does on top. The mounts live in a namespace of their own and go with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.root import LabUnavailableError, cache_directory, ensure, lock

PACKAGES = ("python3-venv", "ca-certificates")
SOURCE = Path(__file__).parents[1]
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_WITHIN = 300.0
KEEP_LEFTOVERS = 24 * 3600
PASSED_ON = {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "http_proxy", "https_proxy", "no_proxy"}
"""How this machine reaches the package index."""

_MOUNT = """
set -e
root=$1; mount -t overlay overlay -o "lowerdir=$2,upperdir=$3,workdir=$4" "$root"
mount -t proc proc "$root/proc"
mkdir -p "$root/source" "$root/var/cache/pip"
mount --bind -o ro "$5" "$root/source"; mount --bind "$6" "$root/var/cache/pip"
for device in null zero random urandom; do
    touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"
done
echo ready
exec sleep infinity
"""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended. `told` is all it printed."""

    code: int
    told: str


class PbxHost:
    """A running host; `root` is where others see its files, as long as it is inside `entered`."""

    def __init__(self, process: subprocess.Popen[str], root: Path, upper: Path) -> None:
        self._process = process
        self.root = root
        self.upper = upper

    def command(self, *words: str | Path, environment: Mapping[str, str] | None = None) -> list[str]:
        """What starts `words` inside."""
        given = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "PIP_CACHE_DIR": "/var/cache/pip"}
        given |= {name: value for name, value in os.environ.items() if name in PASSED_ON}
        given |= {"PIP_CERT": str(CERTIFICATES), "DEBIAN_FRONTEND": "noninteractive", **(environment or {})}
        enter = ["nsenter", "-t", str(self._process.pid), "-m", "chroot", str(self.root)]
        return [*enter, "env", "-i", *(f"{key}={value}" for key, value in given.items()), *map(str, words)]

    def run(
        self, *words: str | Path, stdin: str = "", environment: Mapping[str, str] | None = None, fine: bool = True
    ) -> Done:
        """Run a command inside; where it is to be `fine`, a failure of it is one of the test."""
        done = subprocess.run(
            self.command(*words, environment=environment),
            check=False, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=COMMAND_WITHIN,
        )  # fmt: skip
        assert done.returncode == 0 or not fine, f"{words}: {done.returncode}\n{done.stdout}"
        return Done(done.returncode, done.stdout)

    def shell(self, script: str) -> str:
        return self.run("sh", "-ec", script).told

    def install(self, *options: str, token: str = "", fine: bool = True, check: bool = False, python: str = "") -> Done:
        options = (*options, *["--token-stdin"] * bool(token), *["--no-check"] * (not check))
        words = ("/source/scripts/install", "--no-packages", *options)
        return self.run(*words, stdin=f"{token}\n", environment={"PYTHON": python} if python else {}, fine=fine)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def entered(*, over: Sequence[Path] = (), source: Path = SOURCE) -> Iterator[PbxHost]:
    """A host; `over` are the layers of earlier ones, the latest first. `source` is what is installed from."""
    with tempfile.TemporaryDirectory(prefix="host-", dir=_cache()) as directory:
        folder = Path(directory)
        folder.chmod(0o755)
        for name in ("root", "upper", "work"):
            (folder / name).mkdir()
        pip = _cache() / "pip"
        pip.mkdir(exist_ok=True)
        lower = ":".join(map(str, [*over, _python_layer(), ensure("22").path]))
        command: list[str | Path] = [
            *(
                "setpriv",
                "--pdeathsig",
                "SIGKILL",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                _MOUNT,
            ),
            *("sh", folder / "root", lower, folder / "upper", folder / "work", source, pip),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        host = PbxHost(process, folder / "root", folder / "upper")
        try:
            told = process.stdout.readline()
            if told != "ready\n":
                told += process.stdout.read()
                raise LabUnavailableError(f"no host to install on: {told}: overlay file systems are needed, and root")
            yield host
        finally:
            host.stop()
            process.stdout.close()


def _cache() -> Path:
    """Where the layers are; what killed tests left there is swept out after a day."""
    directory = cache_directory() / "install"
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob("host-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > KEEP_LEFTOVERS:
                shutil.rmtree(left, ignore_errors=True)
    return directory


def _python_layer() -> Path:
    """Python, and how this machine reaches its package indexes: made once."""
    layer = _cache() / "python"
    with lock(_cache() / "python.lock", print):
        if layer.is_dir():
            return layer
        draft = _cache() / "python.draft"
        work = _cache() / "python.work"
        for directory in (draft, work):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
        script = f"""
            set -e; cd {_cache()}; mkdir -p python.root
            mount -t overlay overlay -o lowerdir={ensure("22").path},upperdir={draft},workdir={work} python.root
            mount -t proc proc python.root/proc; mount --bind /dev python.root/dev
            cp /etc/resolv.conf python.root/etc/resolv.conf
            sed -i 's/^hosts:.*/hosts: files dns/' python.root/etc/nsswitch.conf
            chroot python.root apt-get -o Acquire::Check-Valid-Until=false -qq update
            chroot python.root apt-get install -y -qq --no-install-recommends {" ".join(PACKAGES)}
            chroot python.root apt-get clean
            cp {CERTIFICATES} python.root{CERTIFICATES}
        """
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "PATH": PATH}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=900)
        if done.returncode:
            raise LabUnavailableError(f"no Python in the root with Asterisk: {done.stderr[-800:]}")
        draft.rename(layer)
    return layer


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
