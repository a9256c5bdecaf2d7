"""The description and what is served are held against each other: route by route, then by thousands of odd requests."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from itgrix_kommo.config import Recordings as RecordingSettings
from itgrix_kommo.recordings.archive import Recordings
from itgrix_kommo.recordings.links import Ticket
from itgrix_kommo.recordings.recording import Recording
from itgrix_kommo.recordings.serving import routes
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import Registrations
from itgrix_kommo.web.openapi import description
from tests.past_calls import filled_table, past_of
from tests.recorded_sounds import Index
from tests.web_face import ORIGINATE_TOKEN, PASSWORD, WEBHOOK_SECRET, FakeGrants, Served, face_of

BASIC = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
CREDENTIALS = {
    "/originate": f"Bearer {ORIGINATE_TOKEN}",
    "/originate/{originate_id}": f"Bearer {ORIGINATE_TOKEN}",
    "/status": f"Basic {BASIC}",
    "/metrics": f"Basic {BASIC}",
    "/pbx/read_call": f"Basic {BASIC}",
    "/oauth/kommo/login": f"Basic {BASIC}",
}
KNOWN = {"secret": WEBHOOK_SECRET}
"""Parts of paths that nobody guesses."""

LONGEST_LINE = 8000
"""Characters of a request's first line, about: aiohttp refuses longer ones before anybody is asked."""

HELD_TO: tuple[Any, ...] = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
)

SCHEMA: Any = schemathesis.openapi.from_dict(description("0"))
OPERATIONS = [(path, method) for path, operations in description("0")["paths"].items() for method in operations]


@contextmanager
def running(directory: Path) -> Iterator[Served]:
    """A face in a thread of its own: what asks it here waits for its answers."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="face")
    thread.start()
    context = whole_face(directory)
    try:
        served = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(20)
        yield served
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


@asynccontextmanager
async def whole_face(directory: Path) -> AsyncIterator[Served]:
    """With a past to read, a recording to hear and a grant to be had."""
    (directory / "raw.alaw").write_bytes(bytes(range(250)) * 4)
    index = Index()
    await index.put(Recording("raw", (str(directory / "raw.alaw"),), "call", 0.0))
    heard = RecordingSettings(directories=(str(directory),), public_url="https://pbx.example.com", cache_gb=0)
    archive = Recordings(heard, index, key=b"k" * 32, cache=directory / "cache")
    database = await Database.open(f"sqlite+aiosqlite:///{directory}/itgrix.db")
    past = past_of(await filled_table(directory), Registrations(database, "pbx1"))
    pace = {"per_user_per_minute": 100_000, "per_minute": 100_000}
    async with face_of(
        directory, past=past, grants=FakeGrants(), public_routes=routes(archive), originate=pace
    ) as served:
        assert archive._links is not None
        link = archive._links.link(Ticket("raw", None))
        KNOWN["signed"] = link.rpartition("/")[2].removesuffix(".mp3")
        yield served
    await archive.close()
    await database.close()


async def test_every_route_is_described_and_the_other_way_round(tmp_path: Path) -> None:
    async with whole_face(tmp_path) as face:
        served = {
            (route.method.lower(), web.UrlDispatcher().add_resource(route.path).canonical)
            for route in face.face.local_routes
            if isinstance(route, web.RouteDef) and route.method != "OPTIONS"
        }
        answer = await face.ask("GET", "/openapi.json")
    described = {(method, path) for path, operations in answer.json["paths"].items() for method in operations}
    assert served == described
    assert answer.json == description(answer.json["info"]["version"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(tmp_path_factory.mktemp("face")) as face:
        yield face


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        *((*operation, GenerationMode.POSITIVE) for operation in OPERATIONS),
        # Elsewhere nothing is given that could be odd: schemathesis would look for it in vain.
        ("/originate", "post", GenerationMode.NEGATIVE),
        ("/autodistribution", "get", GenerationMode.NEGATIVE),
        ("/pbx/read_call", "get", GenerationMode.NEGATIVE),
        ("/pbx/read_call", "post", GenerationMode.NEGATIVE),
    ],
    ids=str,
)
def test_requests_get_what_is_described(path: str, method: str, mode: GenerationMode, served: Served) -> None:
    held = 0

    @settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=SCHEMA[path][method].as_strategy(generation_mode=mode))
    def hold(case: Any) -> None:
        nonlocal held
        headers = {"Authorization": CREDENTIALS[path]} if path in CREDENTIALS else {}
        case.path_parameters = {name: KNOWN.get(name, given) for name, given in case.path_parameters.items()}
        for given_headers in (headers, {}):
            response = case.call(base_url=served.url, headers=given_headers, allow_redirects=False)
            assert b"Traceback" not in response.content
            assert b"of-tests" not in response.content
            if len(response.request.path_url) > LONGEST_LINE:
                assert response.status_code == 400  # the server's own word: it is no request yet
                continue
            case.validate_response(response, checks=HELD_TO)
            held += 1

    hold()
    assert held
