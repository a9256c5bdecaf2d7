"""Forgetting a person in a running daemon: what a command erases on the disk is not written there anew from memory.

The command leaves a request as a file, which the daemon takes away once it has forgotten.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from itgrix_kommo.calls.call import ChannelView
from itgrix_kommo.calls.view import NO_NUMBER
from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.pipeline.intake import CALL

ERASURES = "erasures"
LOOK_EVERY = 1.0
ANSWER_WITHIN = 20.0

_log = structlog.get_logger(__name__)


class Worker(Protocol):
    """A `Delivery`, or a `Member` with two of them."""

    async def let_go(self, clients: Collection[str]) -> None: ...


class Forgetting:
    """The daemon's side; `files` is its directory."""

    def __init__(self, files: Path, phonebook: Phonebook, delivery: Worker) -> None:
        self._directory = files / ERASURES
        self._phonebook = phonebook
        self._delivery = delivery

    async def run(self) -> None:
        """Look for requests, for ever."""
        while True:
            for path in _requests(self._directory):
                await self._answer(path)
            await asyncio.sleep(LOOK_EVERY)

    async def _answer(self, path: Path) -> None:
        asked = _read(path)
        if asked is not None:
            digits, clients = asked
            await self._delivery.let_go(clients)
            self._phonebook.forget_number(digits)
            try:
                await self._phonebook.flush()
            except StorageError as error:
                _log.error("phonebook_not_written", error=str(error), remedy="tried again")
                return
            _log.info("person_forgotten")
        _take_away(path)


def ask_daemon(files: Path, digits: str, clients: Collection[str], *, within: float = ANSWER_WITHIN) -> bool:
    """Have the running daemon forget; False where it did not answer `within` so many seconds. Raises StorageError."""
    directory = files / ERASURES
    path = directory / f"{secrets.token_hex(8)}.json"
    aside = directory / f".{path.name}"
    try:
        owner = files.stat()
        directory.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"digits": digits, "clients": sorted(clients)}, file)
        for one in (directory, aside):  # root asks, and the daemon takes it away
            os.chown(one, owner.st_uid, owner.st_gid)
        aside.rename(path)
    except OSError as error:
        why = f"{directory} can't be used: {error.strerror}"
        raise StorageError(f"{why}: run this as root or the daemon's user") from error
    try:
        deadline = time.monotonic() + within
        while path.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True
    finally:
        path.unlink(missing_ok=True)


def faceless(kept: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a call as it was kept, without whose it was: what is left are its ids, its times and its result."""
    try:
        call = CALL.validate_python(kept)
    except ValidationError:  # another version kept it
        return {"type": "unknown", "outcome": None, "duration": 0, "accepted_id": "", "started_at": 0.0}
    bare = dataclasses.replace(
        call,
        client=NO_NUMBER,
        channel=_faceless(call.channel),
        conversations=(),
        active_conversation_id="",
        accepted_id="",
        trunk="",
        timeline=(),
    )
    made: dict[str, Any] = CALL.dump_python(bare, mode="json")
    return made


def conversations_of(kept: dict[str, Any]) -> list[str]:
    """The ids of a call's conversations, by its JSON."""
    try:
        return [one.id for one in CALL.validate_python(kept).conversations]
    except ValidationError:
        return []


def _faceless(channel: ChannelView) -> ChannelView:
    return channel._replace(name="", from_=NO_NUMBER, to=NO_NUMBER, trunk=NO_NUMBER, extra={})


def _read(path: Path) -> tuple[str, list[str]] | None:
    try:
        asked = json.loads(path.read_bytes())
        return str(asked["digits"]), list(map(str, asked["clients"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.error("erasure_not_understood", path=str(path), error=repr(error), remedy="it is taken away")
        return None


def _take_away(path: Path) -> None:
    path.unlink(missing_ok=True)


def _requests(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except OSError:
        return []
