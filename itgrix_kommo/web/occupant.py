"""Who listens on a TCP port of this host, as far as /proc lets us see."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTENS = "0A"


def occupant(port: int) -> str:
    """Its name and pid, such as ``nginx (pid 811)``; empty where it can't be told: root alone sees all processes."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for directory in _PROC.glob("[0-9]*") if sockets else ():
        with suppress(OSError):  # it is not ours to see, or has gone meanwhile
            if any(_target(one) in sockets for one in (directory / "fd").iterdir()):
                return f"{(directory / 'comm').read_text('utf-8', 'replace').strip()} (pid {directory.name})"
    return ""


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text("ascii", "replace").splitlines()[1:]
        except OSError:
            continue
        # 0: 0100007F:1F8D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 131090 1 …
        for words in map(str.split, lines):
            if len(words) > 9 and words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found
