"""Which recording a link refers to, and the key by which links are signed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import sqlalchemy as sa

from itgrix_kommo.errors import StorageError
from itgrix_kommo.recordings.recording import Recording
from itgrix_kommo.storage.database import Database, recordings

KEY_BYTES = 32


class RecordingTable:
    """A `RecordingIndex`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, recording_id: str) -> Recording | None:
        query = sa.select(recordings).where(recordings.c.id == recording_id)
        row = await self._database.read(lambda connection: connection.execute(query).mappings().first())
        if row is None:
            return None
        return Recording(row["id"], tuple(row["sources"]), row["file_name"], row["called_at"])

    async def put(self, recording: Recording) -> None:
        values = {
            "sources": list(recording.sources),
            "file_name": recording.file_name,
            "called_at": recording.called_at,
        }

        def write(connection: sa.Connection) -> None:
            update = sa.update(recordings).where(recordings.c.id == recording.id).values(**values)
            if connection.execute(update).rowcount == 0:
                connection.execute(sa.insert(recordings).values(id=recording.id, **values))

        await self._database.write(write)

    async def forget_before(self, at: float) -> int:
        """Let go of recordings of calls before `at` (Unix s), whose links have expired; how many there were."""
        old = sa.delete(recordings).where(recordings.c.called_at < at)
        return await self._database.write(lambda connection: connection.execute(old).rowcount)


def link_key(path: Path) -> bytes:
    """The key in this file, made at the first time. Raises StorageError; deleting the file revokes all links."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            aside.rename(path)
        key = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{path} can't be used: {error.strerror}: let the daemon's user own its directory"
        ) from error
    if len(key) < KEY_BYTES:
        raise StorageError(f"{path} holds no key: delete it, and a new one is made (links of before stop working)")
    return key
