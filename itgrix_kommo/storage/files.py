"""Where the daemon keeps its files, and what their directories are called."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

DEFAULT_HOME = Path("/var/lib/itgrix_amo/itgrix.files")

CHRONICLE = "chronicle"
JOURNAL = "journal"
RECORDINGS = "recordings"
LINK_KEY = "link.key"

_LOCKS = Path("/proc/locks")


def home(url: str) -> Path:
    """Beside the SQLite file of `storage.url`, by its name; else the daemon's own directory."""
    file = make_url(url).database if url.startswith("sqlite") else None
    return Path(file).with_suffix(".files") if file else DEFAULT_HOME


def lock_of(database: Path) -> Path:
    """The file that the daemon which uses this SQLite file holds a lock on, as long as it lives."""
    return database.with_name(f"{database.name}.lock")


def daemon_of(url: str) -> int | None:
    """The pid of the daemon that uses the SQLite file of `storage.url`, 0 where it can't be told; None: there is none.

    Of another database nobody here knows who uses it: None.
    """
    file = make_url(url).database if url.startswith("sqlite") else None
    try:
        inode = str(lock_of(Path(file)).stat().st_ino) if file else ""
        # Only looked at: who tried the lock would for a moment keep a daemon from starting.
        locks = _LOCKS.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    for line in locks:
        # 1: FLOCK  ADVISORY  WRITE 4711 08:01:131090 0 EOF
        words = line.split()
        if inode and len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
            return int(words[4]) if words[4].isdigit() else 0
    return None
