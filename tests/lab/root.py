"""The folder a real Asterisk lives in: a minimal Debian with the `asterisk` package, built once and cached.

A root is 640 MB and takes one to two minutes; it is built under a temporary name and renamed when it is complete,
under a lock, so an interrupted build leaves nothing that looks like a root.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LabUnavailableError", "Root", "build", "cache_directory", "ensure"]

# Asterisk version → Debian suites that carry it, best first. Suites move on: the next one is the fallback.
SUITES = {"22": ("sid", "forky"), "16": ("bullseye",)}
PACKAGES = {"22": ("asterisk",), "16": ("asterisk", "asterisk-voicemail")}
DEFAULT_MIRROR = "http://deb.debian.org/debian"
ARCHIVE = "http://archive.debian.org/debian"  # where a suite goes when its support ends
DEBOOTSTRAP_SCRIPT = Path("/usr/share/debootstrap/scripts/sid")  # serves suites this debootstrap has not heard of
DEBOOTSTRAP_TIMEOUT = 900.0
INSTALL_TIMEOUT = 900.0
# Raised when the furniture (sounds, links, names) changes; roots are then refurnished, not rebuilt.
FURNITURE = "3"
SAMPLE_RATE = 8000

Say = Callable[[str], None]


class LabUnavailableError(Exception):
    """The lab can't be had on this machine; the message says what failed and the remedy."""


@dataclass(frozen=True, slots=True)
class Root:
    """A finished root folder and the Asterisk version line in it (`22`, `16`)."""

    version: str
    path: Path

    @property
    def modules(self) -> str:
        """The module directory as seen from inside."""
        found = sorted((self.path / "usr/lib").glob("**/asterisk/modules"))
        return f"/{found[0].relative_to(self.path)}"


def cache_directory() -> Path:
    """Where roots are kept, outside any checkout."""
    if own := os.environ.get("ITGRIX_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itgrix-kommo"


def ensure(version: str, *, say: Say = print) -> Root:
    """The root of that version, built now if it isn't there. Raises LabUnavailableError."""
    if version not in SUITES:
        raise LabUnavailableError(f"no recipe for Asterisk {version!r}: ask for one of {', '.join(SUITES)}")
    if os.geteuid() != 0:
        raise LabUnavailableError("the lab runs Asterisk in a chroot, which only root may do: run the tests as root")
    cache = cache_directory()
    root = Root(version, cache / f"asterisk-{version}")
    cache.mkdir(parents=True, exist_ok=True)
    with lock(cache / f"asterisk-{version}.lock", say):
        if not root.path.is_dir():
            build(root, say)
        if furniture_of(root) != FURNITURE:
            furnish(root)
    return root


@contextmanager
def lock(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is building a root (it holds {path}); waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def build(root: Root, say: Say) -> None:
    """Builds the root from the first suite that works. Raises LabUnavailableError naming every failure."""
    require_debootstrap(say)
    failures = []
    mirror = machine_mirror()
    for suite in SUITES[root.version]:
        for source in dict.fromkeys((mirror, DEFAULT_MIRROR, ARCHIVE)):
            draft = root.path.with_name(f"{root.path.name}.building")
            shutil.rmtree(draft, ignore_errors=True)
            say(f"Asterisk {root.version}: building from {suite} at {source} (a minute or two)")
            try:
                say("  unpacking a minimal Debian")
                bootstrap(draft, suite, source)
                install(draft, root.version, say)
            except LabUnavailableError as failure:
                say(f"Asterisk {root.version}: {suite} at {source} failed: {failure}")
                failures.append(f"{suite} at {source}: {failure}")
                shutil.rmtree(draft, ignore_errors=True)
                continue
            draft.rename(root.path)
            say(f"Asterisk {root.version}: ready in {root.path}")
            return
    raise LabUnavailableError(
        f"no root for Asterisk {root.version} could be built; tried " + " | ".join(failures) + ". Remedy: make a Debian"
        " mirror reachable (the first one in apt's sources is used) and run `python -m tests.lab build` again"
    )


def require_debootstrap(say: Say) -> None:
    if shutil.which("debootstrap"):
        return
    say("installing debootstrap")
    try:
        run(["apt-get", "update", "-qq"], INSTALL_TIMEOUT)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap"], INSTALL_TIMEOUT)
    except (LabUnavailableError, OSError) as failure:
        raise LabUnavailableError(
            f"debootstrap is missing and could not be installed ({failure}): install it"
        ) from failure


def machine_mirror() -> str:
    """The Debian mirror this machine itself uses."""
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in lists:
        if path.is_file():
            text = path.read_text("utf-8", "replace")
            if found := re.search(r"^(?!#).*?(https?://\S+/debian)/?(?:\s|$)", text, re.MULTILINE):
                return found[1]
    return DEFAULT_MIRROR


def bootstrap(draft: Path, suite: str, mirror: str) -> None:
    command = ["debootstrap", "--variant=minbase", suite, str(draft), mirror, str(DEBOOTSTRAP_SCRIPT)]
    run(command, DEBOOTSTRAP_TIMEOUT)


def install(draft: Path, version: str, say: Say) -> None:
    policy = draft / "usr/sbin/policy-rc.d"  # no service starts inside
    policy.write_text("#!/bin/sh\nexit 101\n", "utf-8")
    policy.chmod(0o755)
    inside = ["env", "DEBIAN_FRONTEND=noninteractive", "chroot", str(draft)]
    say("  reading its package lists")
    run([*inside, "apt-get", "-o", "Acquire::Check-Valid-Until=false", "update"], INSTALL_TIMEOUT)
    say(f"  installing {', '.join(PACKAGES[version])}")
    run([*inside, "apt-get", "install", "-y", "--no-install-recommends", *PACKAGES[version]], INSTALL_TIMEOUT)
    run([*inside, "apt-get", "clean"], INSTALL_TIMEOUT)
    answer = run([*inside, "asterisk", "-V"], 30)
    if not answer.startswith(f"Asterisk {version}."):
        raise LabUnavailableError(f"the suite carries {answer.strip()!r}, not Asterisk {version}")


def run(command: list[str], timeout: float) -> str:
    """Output of a command. Raises LabUnavailableError with its last lines."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=timeout,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError as missing:
        raise LabUnavailableError(f"{command[0]} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise LabUnavailableError(f"`{' '.join(command)}` took more than {timeout:.0f} s") from late
    if done.returncode:
        tail = "; ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise LabUnavailableError(f"`{' '.join(command)}` ended with {done.returncode}: {tail}")
    return done.stdout


def furniture_of(root: Root) -> str:
    mark = root.path / "lab/furniture"
    return mark.read_text("utf-8") if mark.is_file() else ""


def furnish(root: Root) -> None:
    """Lays out /lab/share: Asterisk's own data with prompts of a moment's silence in place of spoken ones."""
    share = root.path / "lab/share"
    shutil.rmtree(share, ignore_errors=True)
    share.mkdir(parents=True)
    for entry in sorted((root.path / "usr/share/asterisk").iterdir()):
        if entry.name not in {"sounds", "moh"}:
            (share / entry.name).symlink_to(f"/usr/share/asterisk/{entry.name}")
    sounds = share / "sounds/en"
    for name in PROMPTS:
        prompt = sounds / f"{name}.ulaw"
        prompt.parent.mkdir(parents=True, exist_ok=True)
        prompt.write_bytes(silence(0.2))
    (sounds / "lab").mkdir()
    (sounds / "lab/menu.ulaw").write_bytes(tone(600, 3.0))
    (sounds / "lab/bye.ulaw").write_bytes(tone(300, 0.5))
    (share / "moh").mkdir()
    (share / "moh/tone.ulaw").write_bytes(tone(500, 10.0))
    # Asterisk asks for its own host's name and for this one at calls; a resolver out of reach would hold them up.
    names = f"127.0.0.1 localhost {socket.gethostname()} A.ROOT-SERVERS.NET\n"
    (root.path / "etc/hosts").write_text(names, "utf-8")
    (root.path / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n", "utf-8")
    (root.path / "lab/furniture").write_text(FURNITURE, "utf-8")


def silence(seconds: float) -> bytes:
    """µ-law silence, 8 kHz."""
    return b"\xff" * int(SAMPLE_RATE * seconds)


def tone(hertz: int, seconds: float) -> bytes:
    """A µ-law sine at a quarter of full scale, 8 kHz."""
    period = [mulaw(int(8000 * math.sin(2 * math.pi * hertz * n / SAMPLE_RATE))) for n in range(SAMPLE_RATE)]
    samples = int(SAMPLE_RATE * seconds)
    return bytes(period[n % SAMPLE_RATE] for n in range(samples))


def mulaw(sample: int) -> int:
    """One 16-bit sample in G.711 µ-law."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


PROMPTS = (
    "auth-thankyou", "beep", "beeperr", "conf-hasjoin", "conf-hasleft", "conf-onlyperson", "demo-congrats", "is",
    "pbx-invalid", "pbx-invalidpark", "pbx-parkingfailed", "pbx-transfer", "privacy-unident", "queue-thankyou",
    "queue-youarenext", "silence/1", "silence/2", "spy-agent", "spy-pjsip", "tt-somethingwrong", "vm-from",
    "vm-goodbye", "vm-incorrect", "vm-INBOX", "vm-intro", "vm-isunavail", "vm-isonphone", "vm-login", "vm-message",
    "vm-messages", "vm-mismatch", "vm-msgsaved", "vm-no", "vm-nobodyavail", "vm-password", "vm-review", "vm-saved",
    "vm-theperson", "vm-toreply", "vm-tooshort", "vm-youhave", *(f"digits/{n}" for n in range(10)),
)  # fmt: skip
