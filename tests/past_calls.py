"""A PBX's table of calls that nobody heard, and the way to read them: four recorded scenes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from itgrix_kommo.config import PbxDatabase
from itgrix_kommo.pipeline.history import opened_history
from itgrix_kommo.storage.registrations import Registrations
from itgrix_kommo.web.read_call import Past
from tests.cel_scenes import KEPT, Remembered, read
from tests.lab.truth import office
from tests.pbx_tables import MOSCOW, SQLITE, fill, run

NAMES = ("in_answered", "internal_answered", "out_busy", "transfer_attended_by_refer")
SCENES: dict[str, Remembered] = {name: read(KEPT / "22" / f"{name}.json") for name in NAMES}
BEGIN = min(scene.cel_rows()[0].at for scene in SCENES.values())
END = max(scene.cel_rows()[-1].at for scene in SCENES.values())


async def filled_table(directory: Path) -> str:
    """The address of an SQLite database with the scenes' rows."""
    url = f"sqlite+aiosqlite:///{directory}/master.db"
    await run(url, *SQLITE)
    for scene in sorted(SCENES.values(), key=lambda one: one.cel[0]["eventtime"]):
        await fill(url, scene.cel, scene.cdr)
    return url


def past_of(url: str, registrations: Registrations) -> Past:
    """As the daemon opens it."""
    database = PbxDatabase.model_validate({"url": url})
    return partial(opened_history, database, MOSCOW, registrations, office())
