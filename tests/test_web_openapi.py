"""The description and what is served are held against each other: route by route, then by thousands of odd requests."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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

from itgrix_kommo.web.openapi import description
from tests.web_face import ORIGINATE_TOKEN, PASSWORD, WEBHOOK_SECRET, Served, face_of

BASIC = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
CREDENTIALS = {
    "/originate": f"Bearer {ORIGINATE_TOKEN}",
    "/originate/{originate_id}": f"Bearer {ORIGINATE_TOKEN}",
    "/status": f"Basic {BASIC}",
    "/metrics": f"Basic {BASIC}",
}
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
    context = face_of(directory, originate={"per_user_per_minute": 100_000, "per_minute": 100_000})
    try:
        served = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(20)
        yield served
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def test_every_route_is_described_and_the_other_way_round(tmp_path: Path) -> None:
    async with face_of(tmp_path) as face:
        served = {
            (route.method.lower(), route.path)
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
        if "secret" in case.path_parameters:
            case.path_parameters = {"secret": WEBHOOK_SECRET}
        for given_headers in (headers, {}):
            response = case.call(base_url=served.url, headers=given_headers)
            case.validate_response(response, checks=HELD_TO)
            assert "Traceback" not in response.text
            assert "of-tests" not in response.text
            held += 1

    hold()
    assert held
