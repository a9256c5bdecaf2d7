"""Where the daemon keeps its files, and what their directories are called."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

DEFAULT_HOME = Path("/var/lib/itgrix_amo/itgrix.files")

CHRONICLE = "chronicle"
JOURNAL = "journal"
RECORDINGS = "recordings"
LINK_KEY = "link.key"


def home(url: str) -> Path:
    """Beside the SQLite file of `storage.url`, by its name; else the daemon's own directory."""
    file = make_url(url).database if url.startswith("sqlite") else None
    return Path(file).with_suffix(".files") if file else DEFAULT_HOME
