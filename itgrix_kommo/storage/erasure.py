"""Erasing a person: all that the daemon keeps of a telephone number, beside a running daemon or without it.

Of a call a row is left that tells nobody's number, so that the PBX's history is still known to have been registered.
A file that the daemon may be writing is never written anew: what goes is painted over where it stands.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.chronicle import days_of
from itgrix_kommo.storage.database import Database, phonebook, recordings, registrations, remembered
from itgrix_kommo.storage.files import CHRONICLE, JOURNAL
from itgrix_kommo.storage.journal import ENDED, segments_of
from itgrix_kommo.storage.registrations import State
from itgrix_kommo.storage.shared import CLOCK, SharedDatabase, claims, handed, shared_phonebook

ERASED = "erased: somebody wanted to be forgotten"

_IDS = re.compile(rb"^\w*(?:uniqueid|linkedid): (\S+)$", re.IGNORECASE | re.MULTILINE)
_FRAME = re.compile(rb"^@ [^\n]*\n.*?\n\n", re.DOTALL | re.MULTILINE)
_LINE = re.compile(rb"[^\n]*\S[^\n]*\n")

Spans: TypeAlias = list[tuple[int, int]]
Kept: TypeAlias = dict[str, Any]
"""A call's JSON, as its row has it."""


class Traces(NamedTuple):
    """What is kept of a person. `rows` are registrations, those that wait among them, `ids` all names of his calls.

    `journal` and `chronicle` are the spans to paint over, by file.
    """

    rows: list[int]
    waiting: list[int]
    remembered: list[str]
    ids: frozenset[str]
    clients: frozenset[str]
    phones: list[str]
    recordings: list[str]
    journal: dict[Path, Spans]
    chronicle: dict[Path, Spans]

    @property
    def is_empty(self) -> bool:
        return not any(self.counts().values())

    def counts(self) -> dict[str, int]:
        return {
            "registrations": len(self.rows),
            "registrations_of_all_nodes": len(self.remembered),
            "phonebook_entries": len(self.phones),
            "recordings": len(self.recordings),
            "journal_messages": sum(map(len, self.journal.values())),
            "chronicle_lines": sum(map(len, self.chronicle.values())),
        }


class Erasure:
    """Of one number on one node. `digits` are those that every way of writing the number has in common.

    `node` is None where all rows are this host's, whatever it was called; on a server some may be another node's.
    `conversations_of` gives the ids of a kept call's conversations, `faceless` makes of it one that tells nobody.
    """

    def __init__(
        self,
        database: Database,
        node: str | None,
        files: Path,
        digits: str,
        *,
        conversations_of: Callable[[Kept], list[str]],
        faceless: Callable[[Kept], Kept],
    ) -> None:
        self._conversations_of = conversations_of
        self._faceless = faceless
        self._database = database
        self._node = node
        self._files = files
        self._digits = digits
        # What goes on is another's longer number; what stands before are country codes and prefixes.
        self._named = re.compile(rb"%b(?!\d)" % digits.encode())
        self._here = sa.true() if node is None else registrations.c.node == node

    async def find(self) -> Traces:
        """What there is. Raises StorageError."""
        told = f"%{self._digits}%"
        mentions = sa.or_(
            registrations.c.client.like(told),
            sa.cast(registrations.c.call, sa.Text).like(told),
            sa.cast(registrations.c.progress, sa.Text).like(told),
        )
        query = sa.select(registrations).where(self._here, mentions)
        rows = [
            row
            for row in await self._database.read(lambda connection: connection.execute(query).all())
            if self._names(f"{row.client} {json.dumps(row.call)} {json.dumps(row.progress)}".encode())
        ]
        calls = [row.call for row in rows]
        # A row that made his cards while the call went on has a name of its own.
        ids = frozenset(one for row in rows for one in (row.call_id, *row.call.get("aliases", ())))
        talks = [one for call in calls for one in self._conversations_of(call)]
        ids |= await asyncio.to_thread(self._journalled_ids)
        return Traces(
            rows=[row.id for row in rows],
            waiting=[row.id for row in rows if row.state == State.WAITING],
            remembered=await self._remembered(told),
            ids=ids,
            clients=frozenset(row.client for row in rows),
            phones=await self._phones(told),
            recordings=await self._recordings(told, set(talks)),
            journal=await asyncio.to_thread(
                self._spans, self._journals(), _FRAME, {one.encode() for one in ids}, _is_of_call
            ),
            chronicle=await asyncio.to_thread(
                self._spans, self._chronicles(), _LINE, {json.dumps(one).encode() for one in ids}, _is_told_of
            ),
        )

    async def hold_back(self, traces: Traces) -> None:
        """Have no more calls of his taken up by the daemon."""
        update = (
            sa.update(registrations)
            .where(registrations.c.id.in_(traces.waiting), registrations.c.state == State.WAITING)
            .values(state=State.SKIPPED, reason=ERASED)
        )
        await self._database.write(lambda connection: connection.execute(update))

    async def erase(self, traces: Traces) -> None:
        """Let it go. Raises StorageError."""

        def erase(connection: sa.Connection) -> None:
            table = registrations
            if connection.dialect.name == "sqlite":
                connection.execute(sa.text("PRAGMA secure_delete=ON"))  # what is freed is overwritten
            for number in traces.rows:
                row = connection.execute(sa.select(table).where(table.c.id == number)).first()
                if row is None:
                    continue
                state = State.DONE if row.state == State.DONE else State.SKIPPED
                changed = {"client": row.call_id, "call": self._faceless(row.call), "progress": {}, "reason": ERASED}
                connection.execute(sa.update(table).where(table.c.id == number).values(state=state, **changed))
            connection.execute(sa.delete(remembered).where(remembered.c.call_id.in_(traces.remembered)))
            connection.execute(sa.delete(phonebook).where(phonebook.c.phone.in_(traces.phones)))
            connection.execute(sa.delete(recordings).where(recordings.c.id.in_(traces.recordings)))

        await self._database.write(erase)
        await self._database.empty_log()  # before the files: who runs this again finds them, and comes here again
        for path, spans in traces.journal.items():
            _paint(path, spans, lambda length: b"# erased".ljust(length - 2) + b"\n\n")
        for path, spans in traces.chronicle.items():
            _paint(path, spans, b"\n".rjust)

    def _journals(self) -> list[Path]:
        journal = self._files / JOURNAL
        return [*segments_of(journal), *segments_of(journal / ENDED)]

    def _chronicles(self) -> list[Path]:
        return [path for _, path in days_of(self._files / CHRONICLE)]

    def _names(self, text: bytes) -> bool:
        return self._named.search(text) is not None

    def _journalled_ids(self) -> set[str]:
        """Those of calls that name him."""
        found: set[str] = set()
        for path in self._journals():
            if self._names(text := _read(path)):
                frames = (frame[0] for frame in _FRAME.finditer(text) if self._names(frame[0]))
                found.update(one.decode("utf-8", "replace") for frame in frames for one in _IDS.findall(frame))
        return found

    def _spans(
        self,
        paths: Iterable[Path],
        record: re.Pattern[bytes],
        ids: Collection[bytes],
        is_of: Callable[[bytes, Collection[bytes]], bool],
    ) -> dict[Path, Spans]:
        found: dict[Path, Spans] = {}
        for path in paths:
            text = _read(path)
            if self._names(text) or any(one in text for one in ids):
                spans = [one.span() for one in record.finditer(text) if self._names(one[0]) or is_of(one[0], ids)]
                if spans:
                    found[path] = spans
        return found

    async def _remembered(self, told: str) -> list[str]:
        query = sa.select(remembered.c.call_id).where(sa.cast(remembered.c.row, sa.Text).like(told))
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def _phones(self, told: str) -> list[str]:
        query = sa.select(phonebook.c.phone).where(
            sa.or_(phonebook.c.phone.like(told), sa.cast(phonebook.c.listing, sa.Text).like(told))
        )
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def _recordings(self, told: str, talks: Collection[str]) -> list[str]:
        """By number or conversation: `<node>-<conversation>` is a recording's id, as the node was called then."""
        is_his = sa.or_(recordings.c.file_name.like(told), sa.cast(recordings.c.sources, sa.Text).like(told))
        query = sa.select(recordings.c.id, is_his)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [one for one, by_number in rows if by_number or self._is_of_talk(one, talks)]

    def _is_of_talk(self, recording: str, talks: Collection[str]) -> bool:
        if self._node is not None:
            return recording.removeprefix(f"{self._node}-") in talks
        ends = (recording[at + 1 :] for at, letter in enumerate(recording) if letter == "-")
        return any(one in talks for one in ends)


async def erase_shared(shared: SharedDatabase, digits: str, faceless: Callable[[Kept], Kept]) -> int:
    """Let go of him in what the nodes have in common; how many registrations there were. Raises StorageError."""
    told = f"%{digits}%"
    query = sa.select(handed.c.number, handed.c.call_id, handed.c.client, handed.c.state, handed.c.call).where(
        sa.or_(
            handed.c.client.like(told),
            sa.cast(handed.c.call, sa.Text).like(told),
            sa.cast(handed.c.progress, sa.Text).like(told),
        )
    )

    def erase(connection: sa.Connection) -> int:
        rows = connection.execute(query.with_for_update()).all()
        listing = sa.cast(shared_phonebook.c.listing, sa.Text)
        known = sa.or_(shared_phonebook.c.phone.like(told), listing.like(told))
        connection.execute(sa.delete(shared_phonebook).where(known))
        for row in rows:
            state = State.DONE if row.state == State.DONE else State.SKIPPED
            changed = {"client": row.call_id, "call": faceless(row.call), "progress": {}, "reason": ERASED}
            update = sa.update(handed).where(handed.c.number == row.number)
            connection.execute(update.values(state=state, ended_at=CLOCK, version=handed.c.version + 1, **changed))
            connection.execute(sa.delete(claims).where(claims.c.client == row.client))
        return len(rows)

    return await shared.write(erase)


def _is_of_call(frame: bytes, ids: Collection[bytes]) -> bool:
    return any(one in ids for one in _IDS.findall(frame))


def _is_told_of(line: bytes, ids: Collection[bytes]) -> bool:
    return any(one in line for one in ids)


def _read(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        return b""
    except (OSError, EOFError, zlib.error) as error:
        raise StorageError(f"{path} can't be read: {error}: mend it or take it away, and erase again") from error


def _paint(path: Path, spans: Spans, filler: Callable[[int], bytes]) -> None:
    try:
        if path.suffix != ".gz":
            with path.open("r+b", buffering=0) as file:
                for begin, end in spans:
                    os.pwrite(file.fileno(), filler(end - begin), begin)
                os.fsync(file.fileno())
            return
        text, status = bytearray(_read(path)), path.stat()
        for begin, end in spans:
            text[begin:end] = filler(end - begin)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(gzip.compress(text))
        os.chown(aside, status.st_uid, status.st_gid)
        os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
        aside.rename(path)
    except FileNotFoundError:
        return  # it was compressed or cleaned away meanwhile: the next look finds what is left of it
    except OSError as error:
        why = f"{path} can't be written: {error.strerror}"
        raise StorageError(f"{why}: run this as root or the daemon's user") from error
