"""The rooms as they are configured, opened; what has to be closed is closed with the stack."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import structlog

from itgrix_kommo import log
from itgrix_kommo.config import Config
from itgrix_kommo.customizations import Customizer
from itgrix_kommo.errors import HooksUnusable
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.transport import Transport
from itgrix_kommo.pipeline.delivery import Delivery
from itgrix_kommo.pipeline.member import Member
from itgrix_kommo.recordings.archive import Recordings
from itgrix_kommo.storage.chronicle import Chronicle
from itgrix_kommo.storage.cleaning import Cleaning, Rows
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.files import CHRONICLE, JOURNAL, LINK_KEY, RECORDINGS, home
from itgrix_kommo.storage.journal import Journal
from itgrix_kommo.storage.memory import Memory
from itgrix_kommo.storage.names import out_of_reach, see_whose
from itgrix_kommo.storage.recordings import RecordingTable, link_key
from itgrix_kommo.storage.registrations import Registrations, State
from itgrix_kommo.storage.shared import SharedDatabase
from itgrix_kommo.storage.shared_registrations import SharedRegistrations, forget_before

_log = structlog.get_logger(__name__)


async def registrations(config: Config, database: Database) -> Registrations:
    """This node's own. Raises NameChanged where the database has another one's alone."""
    name = config.node.name
    others = await see_whose(database, config.storage.url.get_secret_value(), name)
    if others is not None:
        _log.warning("rows_of_another_name", what=others.words, remedy=others.remedy)
    own = Registrations(database, name)
    handed = 0 if config.storage.shared_url is not None else (await own.counts()).get(State.HANDED, 0)
    if handed:
        words, remedy = out_of_reach(handed)
        _log.warning("rows_out_of_reach", what=words, remedy=remedy)
    return own


def shared_database(config: Config, stack: AsyncExitStack) -> SharedDatabase | None:
    """The one of several nodes, which may be away; None where there is but one node."""
    url = config.storage.shared_url
    if url is None:
        return None
    shared = SharedDatabase(url.get_secret_value())
    stack.push_async_callback(shared.close)
    return shared


def delivery(
    config: Config,
    deliver: Callable[..., Delivery],
    own: Registrations,
    database: Database,
    shared: SharedDatabase | None,
    transport: Transport,
    account_id: Callable[[], int | None],
) -> Delivery | Member:
    """What sees to kept calls: on our own, or as one of several nodes."""
    if shared is None:
        return deliver(own)
    name = config.node.name
    memory = Memory(database, name)
    common = SharedRegistrations(shared, memory, name)
    return Member(
        name,
        shared,
        memory,
        common,
        transport.limiter,
        limit=config.kommo.requests_per_second,
        together=deliver(common),
        alone=deliver(own, is_alone=True),
        pause=lambda: transport.pause,
        account_id=account_id,
        is_answered=lambda: transport.is_answered,
    )


def journal(config: Config, stack: AsyncExitStack) -> Journal:
    """The journal of what Asterisk says; beside it the chronicle of what we do begins."""
    files = home(config.storage.url.get_secret_value())
    chronicle = Chronicle(files / CHRONICLE)
    stack.callback(chronicle.close)
    stack.callback(log.follow(chronicle.hear))
    made = Journal(files / JOURNAL)
    stack.callback(made.close)
    return made


async def customizer(config: Config, stack: AsyncExitStack) -> Customizer:
    made = Customizer(config.customizations)
    stack.push_async_callback(made.stop)
    try:
        await made.start()
    except HooksUnusable as error:
        # Calls are captured all the same; the directory is looked at again while the daemon runs.
        _log.error("customizations_unusable", error=str(error))
    return made


async def recordings(config: Config, stack: AsyncExitStack, database: Database) -> Recordings:
    """The recordings; where they can't be converted, the files themselves are served."""
    settings = config.recordings
    files = home(config.storage.url.get_secret_value())
    secret = settings.link_secret
    key = secret.get_secret_value().encode() if secret is not None else link_key(files / LINK_KEY)
    archive = Recordings(settings, RecordingTable(database), key=key, cache=files / RECORDINGS)
    stack.push_async_callback(archive.close)
    try:
        await archive.start()
    except OSError as error:
        _log.error("recordings_not_converted", error=str(error), remedy=f"let the daemon's user own {files}")
    return archive


def cleaning(
    config: Config,
    database: Database,
    own: Registrations,
    phonebook: Phonebook,
    shared: SharedDatabase | None,
    *,
    days: Callable[[], float],
) -> Cleaning:
    name = config.node.name
    rows = Rows(
        own.forget_before,
        phonebook.forget_before,
        RecordingTable(database).forget_before,
        shared=partial(forget_before, shared, name) if shared else None,
        memory=Memory(database, name).forget_before if shared else None,
    )
    files = home(config.storage.url.get_secret_value())
    link_days = config.recordings.link_days
    return Cleaning(rows, files, days=days, link_days=link_days)
