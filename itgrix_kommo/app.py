"""The composition root: builds the rooms from the configuration, runs them, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from itgrix_kommo import log, opened
from itgrix_kommo.ami.decode import decode
from itgrix_kommo.ami.link import AmiLink
from itgrix_kommo.ami.outbox import Received
from itgrix_kommo.calls.call import Stage
from itgrix_kommo.calls.call_full import call_full
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.config import Config
from itgrix_kommo.config.fmc import FmcPatterns
from itgrix_kommo.configured import ami_settings, connect, number_plan, rules_of, unlisted_by, wanted
from itgrix_kommo.errors import ConfigError, StorageError
from itgrix_kommo.kommo.checks import Report
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import JITTER, WINDOW, Limiter
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.popups import Popups
from itgrix_kommo.kommo.subscription import Subscription
from itgrix_kommo.pipeline.capture import Capture
from itgrix_kommo.pipeline.clients import Clients, warm_by_recent_callers
from itgrix_kommo.pipeline.delivery import Delivery
from itgrix_kommo.pipeline.forgetting import Forgetting
from itgrix_kommo.pipeline.gate import Gate
from itgrix_kommo.pipeline.history import Gaps, fill_downtime, opened_history
from itgrix_kommo.pipeline.intake import early_registration_of, registration_of
from itgrix_kommo.pipeline.member import Member
from itgrix_kommo.pipeline.rules import Rules
from itgrix_kommo.pipeline.stages import LiveStages
from itgrix_kommo.recordings.serving import routes as recording_routes
from itgrix_kommo.reload import Reloads
from itgrix_kommo.service_manager import ServiceManager
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.files import home
from itgrix_kommo.storage.phonebook import PhonebookRows
from itgrix_kommo.storage.registrations import Registrations
from itgrix_kommo.storage.shared_phonebook import SharedPhonebook
from itgrix_kommo.web.face import Face, Rooms
from itgrix_kommo.web.outside import Outside
from itgrix_kommo.web.read_call import Past

FMC_EVERY = 5.0
"""Seconds between looks at the file of FMC patterns."""

SERVE_AGAIN = 5.0
"""Seconds before an address that could not be listened on is tried again."""

GARBAGE = 10_000
"""Objects that come to be before the unreachable ones are looked for, a megabyte or so: at Python's own 700 the looking
is a twelfth of all the daemon does.
"""

KEEP_WITHIN = 5.0
"""Seconds that the end of the daemon waits for its database."""

_log = structlog.get_logger(__name__)


class Daemon:
    """One node: listens to its Asterisk, keeps what it hears, and registers it in Kommo."""

    def __init__(
        self,
        config: Config,
        service_manager: ServiceManager | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """`reread` gives the configuration as it is now, for `reload`."""
        self.config = config
        self._service_manager = service_manager or ServiceManager()
        self._reloads = Reloads(reread or (lambda: config), self._service_manager)
        self._is_debugging = False
        self.plan = number_plan(config)
        self.tracker = Tracker(self.plan)
        self._stop = asyncio.Event()
        self._running: asyncio.Task[Any] | None = None
        self._is_captured = False
        self.is_hurried = False
        self._account_id: int | None = None
        self._fmc = FmcPatterns(Path(config.numbers.fmc_patterns_file))

    def stop(self) -> None:
        """End `run` in an orderly way: nothing is lost by it, even if asked again, which ends it at once."""
        self.is_hurried = self._stop.is_set()
        self._stop.set()
        if self.is_hurried and self._is_captured and self._running is not None:
            self._running.cancel()

    def reload(self) -> None:
        """Read the configuration anew; what can't be taken over is named in the log."""
        self._reloads.ask()

    def toggle_debug(self) -> None:
        """Log everything, or what the configuration says again."""
        self._is_debugging = not self._is_debugging
        level = "debug" if self._is_debugging else self.config.logging.level
        log.set_level(level)
        _log.warning("log_level", now=level)

    async def run(self, on_ready: Callable[[str], None] = lambda _: None) -> None:
        """Work until stopped. `on_ready` is told the address of the HTTP face, once it has one.

        Raises ConfigError and StorageError where the daemon can't work on this host as configured.
        """
        config, self._running = self.config, asyncio.current_task()
        self._read_fmc_patterns()
        async with contextlib.AsyncExitStack() as stack:
            database = await Database.open(config.storage.url.get_secret_value())
            stack.push_async_callback(database.close)
            registrations = await opened.registrations(config, database)
            journal = opened.journal(config, stack)
            limiter = Limiter(config.kommo.requests_per_second)
            # Kommo still counts what an earlier daemon asked in its last second.
            limiter.pause_for(JITTER + WINDOW)
            shared = opened.shared_database(config, stack)
            transport, grants = await connect(config, database, limiter, stack, shared)
            client = KommoClient(transport, region=config.numbers.region)
            popups = Popups(transport)
            book = PhonebookRows(database)
            common_book = SharedPhonebook(book, shared, config.node.name) if shared is not None else None
            phonebook = Phonebook(client, common_book or book)
            await phonebook.load()
            customizer = await opened.customizer(config, stack)
            archive = await opened.recordings(config, stack, database)
            gate = Gate(client, wanted(self.config), self._rules)
            deliver = partial(
                Delivery,
                client=client,
                clients=Clients(phonebook),
                hooks=customizer,
                recordings=archive,
                gate=gate,
                phone_of=self.plan.client_phone,
            )
            delivery = opened.delivery(
                config, deliver, registrations, database, shared, transport, lambda: self._account_id
            )
            live = LiveStages(
                customizer,
                popups,
                popup=config.business.popup,
                phone_of=self.plan.client_phone,
                full_of=lambda call: call_full(call, config.node.timezone, self._names(gate)),
                unlisted=lambda call, phone: unlisted_by(self.config, call, phone),
            )
            stack.push_async_callback(live.close)
            followers: list[Callable[[Stage], None]] = [live.on_stage]
            capture = Capture(
                self.tracker,
                journal,
                registrations,
                keep=lambda call: registration_of(call, self.plan),
                keep_early=lambda stage: early_registration_of(stage, self.plan, self.config.business.create_at),
                on_kept=delivery.nudge,
                on_stage=lambda stage: _tell(followers, stage),
            )
            link = AmiLink(ami_settings(config), blind_since=capture.replay(decode))
            subscription = self._subscription(client)
            outside = Outside(
                link=link,
                transport=transport,
                gate=gate,
                registrations=registrations,
                customizer=customizer,
                phonebook=phonebook,
                capture=capture,
                tracker=self.tracker,
                journal=journal,
                home=home(config.storage.url.get_secret_value()),
                subscription=subscription,
                member=delivery if isinstance(delivery, Member) else None,
            )
            face = Face(
                config,
                Rooms(
                    plan=self.plan,
                    asterisk=link,
                    customizer=customizer,
                    phonebook=phonebook,
                    account_id=lambda: self._account_id,
                    user_name=lambda user_id: self._names(gate).get(user_id, ""),
                    outside=outside,
                    past=self._past(registrations, delivery),
                    grants=grants,
                    access_granted=lambda: _look_again(gate, subscription),
                    access_ended=gate.shut,
                ),
                public_routes=recording_routes(archive, _elsewhere(delivery)),
            )
            followers.append(face.follow)
            gaps = Gaps()
            cleaning = opened.cleaning(config, database, registrations, phonebook, shared, days=self._retention_days)
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(link.run())
                capturing = tasks.create_task(capture.run(_overheard(link.batches(), face.hear, gaps.hear)))
                lasting = (
                    journal.run(),
                    capture.run_keeper(),
                    gate.run(),
                    delivery.run(),
                    popups.run(),
                    phonebook.run(),
                    *([common_book.run(phonebook.take_in)] if common_book is not None else []),
                    warm_by_recent_callers(gate, registrations, phonebook),
                    archive.run(),
                    Forgetting(home(config.storage.url.get_secret_value()), phonebook, delivery).run(),
                    cleaning.run(),
                    self._service_manager.attend(outside.condition),
                    self._follow_fmc_patterns(),
                    self._fill_gaps(gaps, registrations, delivery),
                    _serve(face, on_ready),
                    *face.runs,
                    *([subscription.run(gate.opened)] if subscription else []),
                    self._reloads.run(
                        config,
                        (
                            self._use,
                            lambda new: customizer.use(new.customizations),
                            lambda new: live.use_popup(new.business.popup),
                            lambda _: gate.renew(wanted(self.config)),
                            face.use,
                        ),
                    ),
                )
                workers = [tasks.create_task(one) for one in lasting]
                await self._stop.wait()
                _log.info("stopping")
                self._service_manager.stopping()
                listening.cancel()
                # What was received is still fed, and what has ended is still kept.
                await capturing
                self._have_captured()
                for task in workers:
                    task.cancel()
            await _keep_at_last(capture, phonebook)
            await journal.sync()
            _log.info("stopped", live_calls=len(self.tracker.calls))

    def _have_captured(self) -> None:
        """From here on nothing is lost by being quick: what was received is in the journal."""
        self._is_captured = True
        if self.is_hurried and self._running is not None:
            self._running.cancel()

    def _use(self, config: Config) -> None:
        """What this class itself goes by; to be told first."""
        former, self.config = self.config, config
        if former.logging != config.logging:
            self._is_debugging = False
            log.configure(config.logging.level, config.logging.format)
        if former.numbers.fmc_patterns_file != config.numbers.fmc_patterns_file:
            self._fmc = FmcPatterns(Path(config.numbers.fmc_patterns_file))
            self._read_fmc_patterns()
        self.plan.go_by(number_plan(config))

    def _past(self, registrations: Registrations, delivery: Delivery | Member) -> Past | None:
        """How calls of the past are read, where the PBX writes them down."""
        database, zone = self.config.database, self.config.node.timezone
        if database is None:
            return None
        return partial(opened_history, database, zone, registrations, self.plan, on_kept=delivery.nudge)

    def _subscription(self, client: KommoClient) -> Subscription | None:
        """To Kommo's webhooks, where there is an address and a secret for them."""
        url, secret = self.config.recordings.public_url, self.config.kommo.webhook_secret
        return Subscription(client, url, secret.get_secret_value()) if url and secret else None

    def _retention_days(self) -> float:
        return self.config.storage.retention_days

    def _read_fmc_patterns(self) -> None:
        patterns = self._fmc.read_if_changed()
        if patterns is not None:
            self.plan.use_fmc_patterns(patterns)

    async def _follow_fmc_patterns(self) -> None:
        while True:
            await asyncio.sleep(FMC_EVERY)
            self._read_fmc_patterns()

    async def _fill_gaps(self, gaps: Gaps, registrations: Registrations, delivery: Delivery | Member) -> None:
        """What ended while nobody listened is read back from CEL, where the PBX writes it."""
        while True:
            since, until = await gaps.next()
            database, zone = self.config.database, self.config.node.timezone
            if database is None:
                _log.warning("calls_unheard", since=since, until=until, remedy="configure `database` to read them back")
            else:
                await fill_downtime(
                    database, zone, registrations, self.plan, since=since, until=until, on_kept=delivery.nudge
                )

    @staticmethod
    def _names(gate: Gate) -> Mapping[int, str]:
        return gate.rules.users if gate.rules is not None else {}

    def _rules(self, report: Report) -> Rules:
        """What the account says completes the configuration: its country reads national numbers."""
        if self.config.numbers.region is None and report.account is not None:
            self.plan.use_region(report.account.country or None)
        if report.account is not None:
            self._account_id = report.account.id
        if report.phone_field_id is None:
            raise AssertionError("a report that lets calls through names the phone field")
        if report.pipeline_id is None or report.status_id is None:
            raise AssertionError("a report that lets calls through names the pipeline and its stage")
        return rules_of(self.config, report)


def _elsewhere(delivery: Delivery | Member) -> Callable[[str], str]:
    return delivery.elsewhere if isinstance(delivery, Member) else lambda _: ""


def _look_again(gate: Gate, subscription: Subscription | None) -> None:
    gate.look_again()
    if subscription is not None:
        subscription.look_again()


async def _serve(face: Face, on_ready: Callable[[str], None]) -> None:
    """Be spoken to over HTTP, for ever. While an address can't be had, it is tried again: calls are captured anyway."""
    complaint = ""
    while True:
        try:
            async with face.open() as address:
                on_ready(address)
                await asyncio.Event().wait()
        except ConfigError as error:
            if str(error) != complaint:
                complaint = str(error)
                _log.error("http_not_served", error=complaint, remedy="calls are captured meanwhile; it is tried again")
        await asyncio.sleep(SERVE_AGAIN)


async def _keep_at_last(capture: Capture, phonebook: Phonebook) -> None:
    """What has ended becomes rows. Where the database fails, the end does not wait: the journal has the calls."""
    try:
        async with asyncio.timeout(KEEP_WITHIN):
            await capture.keep_ended()
            await phonebook.flush()
    except (TimeoutError, StorageError) as error:
        why = str(error) or f"the database took nothing for {KEEP_WITHIN:g} s"
        _log.error("not_all_kept", error=why, remedy="the next start takes up what the journal has")


async def run(
    config: Config, on_ready: Callable[[str], None] = lambda _: None, *, reread: Callable[[], Config] | None = None
) -> None:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP has it `reread` the configuration, SIGUSR1 turns debugging on."""
    daemon = Daemon(config, ServiceManager.of_environment(), reread)
    loop = asyncio.get_running_loop()
    handlers = {
        signal.SIGTERM: daemon.stop,
        signal.SIGINT: daemon.stop,
        signal.SIGHUP: daemon.reload,
        signal.SIGUSR1: daemon.toggle_debug,
    }
    for number, handle in handlers.items():
        loop.add_signal_handler(number, handle)
    _log.info("starting", node=config.node.name, started_at=time.time())
    # What was loaded stays: without this each full collection walks all of it, and the loop stands for 0.1 s.
    gc.freeze()
    gc.set_threshold(GARBAGE)
    try:
        await daemon.run(on_ready)
    except asyncio.CancelledError:
        if not daemon.is_hurried:
            raise
        _log.warning("stopped_at_once", remedy="the next start takes up what the journal and the rows have")


def _tell(followers: Sequence[Callable[[Stage], None]], stage: Stage) -> None:
    for follow in followers:
        follow(stage)


async def _overheard(
    batches: AsyncIterator[list[Received]], *hearers: Callable[[Sequence[Received]], None]
) -> AsyncIterator[list[Received]]:
    """The same batches; the hearers are told each before it goes on."""
    async for batch in batches:
        for hear in hearers:
            hear(batch)
        yield batch
