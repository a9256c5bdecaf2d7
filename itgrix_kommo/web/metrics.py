"""`GET /metrics`: what a monitoring system draws, by Prometheus' own library; base units, counters never go down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from time import perf_counter
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from itgrix_kommo.web.problems import Handler, route_of

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class HookRecord:
    calls: int
    failures: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted at one moment. Seconds are seconds; what counts up begins at the daemon's start."""

    up: Mapping[str, bool] = field(default_factory=dict)
    """Each outside thing, and whether it is without error."""
    live_calls: int = 0
    ended_calls: int = 0
    registrations: Mapping[str, int] = field(default_factory=dict)
    oldest_waiting: float = 0.0
    registering: bool = False
    """Whether Kommo's account is in order, so that calls may be registered."""
    calls_held: int = 0
    journal_held_bytes: int = 0
    disk_free: int | None = None
    """Bytes on the disk of the daemon's data; None where that can't be told."""
    started_at: float = 0.0
    certificates: Mapping[str, float] = field(default_factory=dict)
    """By listener, when its certificate ends, in Unix seconds."""
    ami_messages: int = 0
    ami_events: int = 0
    ami_connections: int = 0
    ami_gaps: int = 0
    kommo_waiting: int = 0
    kommo_pause: float = 0.0
    phonebook: int = 0
    hooks: Mapping[str, HookRecord] = field(default_factory=dict)
    originates: Mapping[str, int] = field(default_factory=dict)
    autodistributions: Mapping[str, int] = field(default_factory=dict)
    webhooks: Mapping[str, int] = field(default_factory=dict)

    def families(self) -> Iterator[Metric]:
        yield _gauge("itgrix_build_info", "Which program this is.", "version", [(version("itgrix-kommo"), 1)])
        yield _gauge("itgrix_up", "Whether an outside thing is without error.", "part", self.up.items())
        yield _gauge("itgrix_live_calls", "Calls that go on.", "", [("", self.live_calls)])
        yield _counter("itgrix_ended_calls", "Calls that ended.", "", [("", self.ended_calls)])
        yield _gauge("itgrix_registrations", "Kept registrations.", "state", self.registrations.items())
        yield _gauge(
            "itgrix_oldest_waiting_seconds", "Since the oldest call in line ended.", "", [("", self.oldest_waiting)]
        )
        yield _gauge("itgrix_registering", "Whether calls may be registered.", "", [("", self.registering)])
        yield _gauge("itgrix_calls_held", "Ended calls that could not be kept yet.", "", [("", self.calls_held)])
        yield _gauge(
            "itgrix_journal_held_bytes", "Journal that could not be written yet.", "", [("", self.journal_held_bytes)]
        )
        free = [] if self.disk_free is None else [("", self.disk_free)]
        yield _gauge("itgrix_disk_free_bytes", "Room on the disk of the daemon's data.", "", free)
        yield _gauge("itgrix_start_time_seconds", "When the daemon was started.", "", [("", self.started_at)])
        yield _gauge("itgrix_certificate_end_time_seconds", "When it ends.", "listener", self.certificates.items())
        yield _counter("itgrix_ami_messages", "Messages Asterisk sent.", "", [("", self.ami_messages)])
        yield _counter("itgrix_ami_events", "Events that were of use.", "", [("", self.ami_events)])
        yield _counter("itgrix_ami_connections", "Logins at Asterisk.", "", [("", self.ami_connections)])
        yield _counter("itgrix_ami_gaps", "Times that events were missed.", "", [("", self.ami_gaps)])
        yield _gauge(
            "itgrix_kommo_waiting_requests", "Requests in the limiter's queue.", "", [("", self.kommo_waiting)]
        )
        yield _gauge("itgrix_kommo_pause_seconds", "How long Kommo told us to wait.", "", [("", self.kommo_pause)])
        yield _gauge("itgrix_phonebook_phones", "Phones that are remembered.", "", [("", self.phonebook)])
        hooks = self.hooks.items()
        yield _counter("itgrix_hook_calls", "Customizations asked.", "hook", ((h, r.calls) for h, r in hooks))
        yield _counter(
            "itgrix_hook_failures", "Customizations that failed.", "hook", ((h, r.failures) for h, r in hooks)
        )
        yield _counter("itgrix_hook_seconds", "Time spent asking.", "hook", ((h, r.seconds) for h, r in hooks))
        yield _counter("itgrix_originates", "Requests to call.", "result", self.originates.items())
        yield _counter("itgrix_autodistributions", "Answers to dialplans.", "result", self.autodistributions.items())
        yield _counter("itgrix_webhooks", "Webhooks of Kommo.", "result", self.webhooks.items())


class Metrics:
    """The registry of one daemon; nothing global, so that several may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Histogram(
            "itgrix_http_request_duration_seconds",
            "Time to answer a request.",
            ("method", "path", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def text(self, figures: Figures) -> bytes:
        """Everything in Prometheus' text format."""
        once = CollectorRegistry(auto_describe=False)
        once.register(_Families(figures))
        return generate_latest(once) + generate_latest(self._registry)

    def measuring(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        """A middleware that times all answers, by the route's pattern: no secret of a path becomes a label."""

        @web.middleware
        async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
            begun = perf_counter()
            response = await handler(request)
            self._requests.labels(
                request.method if request.method in _METHODS else "other",
                route_of(request),
                str(response.status),
            ).observe(perf_counter() - begun)
            return response

        return measure


class _Families(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        return self._figures.families()


def _gauge(name: str, words: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label] if label else [])
    for key, value in values:
        family.add_metric([key] if label else [], float(value))
    return family


def _counter(name: str, words: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = CounterMetricFamily(name, words, labels=[label] if label else [])
    for key, value in values:
        family.add_metric([key] if label else [], float(value))
    return family
