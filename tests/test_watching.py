"""Being watched: what the daemon says of its own troubles, and rules and dashboard that ask for what it really says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types, and three files do not deserve a stub package
from prometheus_client.parser import text_string_to_metric_families

from itgrix_kommo.ami.settings import LinkStatus
from itgrix_kommo.cli.main import commands
from itgrix_kommo.config import Config
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.journal import Journal
from itgrix_kommo.storage.registrations import Registrations, State
from itgrix_kommo.web.metrics import Figures, HookRecord, Metrics
from itgrix_kommo.web.outside import Outside
from itgrix_kommo.web.status import Grade
from tests.story import ended, inbound, plan
from tests.test_web_server import make_certificate
from tests.web_face import PASSWORD, face_of, settings

ETC = Path(__file__).parents[1] / "etc"
RULES = yaml.safe_load((ETC / "prometheus/alerts.yml").read_text("utf-8"))
SCRAPE = yaml.safe_load((ETC / "prometheus/scrape.yml").read_text("utf-8"))
DASHBOARD = json.loads((ETC / "grafana/dashboard.json").read_text("utf-8"))
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]

METRIC = re.compile(r"\bitgrix_[a-z_]+\b")
LABEL = re.compile(r"\b([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"")
FIGURES = Figures(
    up={"asterisk": True},
    registrations={"waiting": 1},
    disk_free=10**10,
    certificates={"http": 1_800_000_000.0},
    hooks={"need_registration": HookRecord(2, 1, 0.5)},
    originates={"started": 1},
    autodistributions={"put_through": 1},
    webhooks={"taken": 1},
)


def exported() -> dict[str, set[str]]:
    """Every sample's name with its labels."""
    metrics = Metrics()
    metrics._requests.labels("GET", "/status", "200").observe(0.1)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text(FIGURES).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> Iterator[str]:
    yield from (alert["expr"] for alert in ALERTS)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    yield from (one["expr"] for one in DASHBOARD["annotations"]["list"])
    yield from (one["definition"] for one in DASHBOARD["templating"]["list"] if "definition" in one)


class TestWhatIsShipped:
    def test_rules_and_dashboard_ask_for_what_is_exported(self) -> None:
        known = exported()
        asked = {name for expression in expressions() for name in METRIC.findall(expression)}
        assert asked <= set(known)
        given = {"instance", "job", "le", "node"}  # by Prometheus, and by scrape.yml
        for expression in expressions():
            labels = set(LABEL.findall(expression)) | {
                label for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r",\s*", by)
            }
            of_these = set().union(*(known[name] for name in METRIC.findall(expression)), given)
            assert labels <= of_these, expression

    def test_every_alert_says_what_is_so_and_what_to_type(self) -> None:
        assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS) >= 12
        for alert in ALERTS:
            assert alert["labels"]["severity"] in {"critical", "warning"}
            assert re.fullmatch(r"\d+[mh]", alert["for"])
            assert alert["annotations"]["summary"].endswith(".")
            assert "itgrix-kommo " in alert["annotations"]["runbook"]
            labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
            shown = set().union({"instance"}, *(exported().get(name, set()) for name in METRIC.findall(alert["expr"])))
            assert labels <= shown, alert["alert"]

    def test_runbooks_name_commands_that_exist(self) -> None:
        known = {one.name or one.callback.__name__ for one in commands.registered_commands if one.callback}
        groups = {
            group.name: {one.name for one in group.typer_instance.registered_commands if one.name}
            for group in commands.registered_groups
            if group.typer_instance
        }
        for alert in ALERTS:
            for first, second in re.findall(r"itgrix-kommo ([a-z-]+)(?: ([a-z]+))?", alert["annotations"]["runbook"]):
                assert first in known or second in groups[first], alert["alert"]

    def test_the_scrape_fits_the_door(self) -> None:
        (job,) = SCRAPE["scrape_configs"]
        assert job["metrics_path"] == "/metrics"
        assert job["job_name"] in next(alert["expr"] for alert in ALERTS if alert["alert"] == "ItgrixDown")
        config = Config.model_validate(settings(Path("/nowhere"), http={}))
        assert job["basic_auth"]["username"] == config.http.admin.login
        assert job["static_configs"][0]["targets"] == [f"127.0.0.1:{config.http.port}"]

    def test_panels_lie_beside_each_other(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells


def an_outside(directory: Path, registrations: Any, journal: Journal, capture: Any) -> Outside:
    """The rooms that tell nothing of interest here are stand-ins."""
    limiter = SimpleNamespace(waiting=0, pause=0.0)
    link: Any = SimpleNamespace(status=LinkStatus(connected=True))
    transport: Any = SimpleNamespace(limiter=limiter, breaker=SimpleNamespace(reason=""))
    gate: Any = SimpleNamespace(stops=list, is_open=True, problems=(), rules=None)
    others: dict[str, Any] = {
        "customizer": SimpleNamespace(records={}),
        "phonebook": {},
        "tracker": SimpleNamespace(calls={}),
    }
    return Outside(
        link=link, transport=transport, gate=gate, registrations=registrations, capture=capture, journal=journal,
        home=directory, **others,
    )  # fmt: skip


class TestTroubles:
    """What would cost calls if the daemon ended now is told while everything still seems well."""

    @pytest.fixture
    async def registrations(self, tmp_path: Path) -> Any:
        database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
        yield Registrations(database, "pbx1")
        await database.close()

    async def test_none(self, tmp_path: Path, registrations: Registrations) -> None:
        capture = SimpleNamespace(keeping_error="", calls_held=0, calls_ended=3)
        outside = an_outside(tmp_path, registrations, Journal(tmp_path / "journal"), capture)
        body = (await outside.health()).body()
        assert (body["status"], body["troubles"]) == ("ok", ())
        figures = await outside.figures()
        assert figures.disk_free is not None
        assert (figures.registering, figures.oldest_waiting, figures.journal_held_bytes) == (True, 0.0, 0)

    async def test_a_journal_that_can_not_be_written(self, tmp_path: Path, registrations: Registrations) -> None:
        journal = Journal(tmp_path / "journal")
        shutil.rmtree(tmp_path / "journal")
        journal.append([(1_795_355_557.0, b"Event: Newchannel")])
        capture = SimpleNamespace(keeping_error="", calls_held=0, calls_ended=3)
        outside = an_outside(tmp_path, registrations, journal, capture)
        health = await outside.health()
        assert health.body()["status"] == "degraded"
        (words,) = health.troubles
        assert "the journal can't be written" in words
        assert f"{journal.held_bytes} bytes of it wait in memory" in words
        assert "free disk space (df -h)" in words
        part = outside.parts()["journal"]()
        assert (part.grade, part.facts["held_bytes"]) == (Grade.ERROR, journal.held_bytes)
        assert (await outside.figures()).up["journal"] is False
        (tmp_path / "journal").mkdir()
        await journal.sync()
        assert (await outside.health()).troubles == ()
        journal.close()

    async def test_ended_calls_that_can_not_be_kept(self, tmp_path: Path, registrations: Registrations) -> None:
        capture = SimpleNamespace(keeping_error="storage.url: it failed: free disk space", calls_held=4, calls_ended=9)
        outside = an_outside(tmp_path, registrations, Journal(tmp_path / "journal"), capture)
        health = await outside.health()
        assert health.troubles == (
            "4 ended calls wait in memory, for they can't be kept: storage.url: it failed: free disk space",
        )
        assert health.body()["status"] == "degraded"
        assert outside.parts()["storage"]().grade is Grade.ERROR
        assert (await outside.figures()).calls_held == 4

    async def test_a_database_that_can_not_be_read(self, tmp_path: Path) -> None:
        async def fail() -> None:
            raise StorageError("storage.url: the database failed: disk I/O error: free disk space")

        capture = SimpleNamespace(keeping_error="", calls_held=0, calls_ended=3)
        failing = SimpleNamespace(counts=fail, oldest_waiting=fail)
        outside = an_outside(tmp_path, failing, Journal(tmp_path / "journal"), capture)
        assert (await outside.health()).troubles == (
            "storage.url: the database failed: disk I/O error: free disk space",
        )
        assert (await outside.figures()).oldest_waiting == 0.0

    async def test_how_long_the_oldest_has_been_waiting(self, tmp_path: Path, registrations: Registrations) -> None:
        assert await registrations.oldest_waiting() is None
        new = registration_of(ended(inbound()), plan())
        assert new is not None
        await registrations.keep(new)
        kept_at = await registrations.oldest_waiting()
        assert kept_at is not None
        capture = SimpleNamespace(keeping_error="", calls_held=0, calls_ended=1)
        figures = await an_outside(tmp_path, registrations, Journal(tmp_path / "journal"), capture).figures()
        assert 0.0 <= figures.oldest_waiting < 3600.0

    async def test_what_the_nodes_see_to_together_waits_too(self, registrations: Registrations) -> None:
        kept = []
        for call in range(3):
            new = registration_of(ended(inbound(linkedid=f"1795355557.{call}0")), plan())
            assert new is not None
            kept.append(await registrations.keep(new))
        for number, state in zip(kept, (State.DONE, State.HANDED, State.WAITING), strict=True):
            assert number is not None
            await registrations.close(number, state)
        handed, waiting = [row.created_at for row in await registrations.latest(2)][::-1]
        assert (await registrations.oldest_waiting(), handed < waiting) == (handed, True)


async def test_the_end_of_a_certificate_is_measured(tmp_path: Path) -> None:
    made, key = make_certificate(tmp_path, "pbx")
    async with face_of(tmp_path, http={
        "port": settings(tmp_path)["http"]["port"], "admin": {"password": PASSWORD},
        "tls_certificate": str(made), "tls_key": str(key),
    }) as face:  # fmt: skip
        (end,) = [one.ends_at for one in face.face._certificates.values()]
        answer = await face.face._measured(None)  # type: ignore[arg-type]  # it looks at no request
    assert end is not None
    samples = {
        tuple(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(bytes(answer.body).decode())  # type: ignore[arg-type]  # bytes
        for sample in family.samples
        if sample.name == "itgrix_certificate_end_time_seconds"
    }
    assert samples == {(("listener", "http"),): end}
