"""`GET /healthz`: 200 while calls are captured, else 503 with the reason; it also names what stops the registering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Health:
    """`capturing_fault` is why no calls are heard, or empty; `registering_stopped_by` is what a person must mend.

    `troubles` is what would cost calls if the daemon ended now, such as a full disk; each line ends with its remedy.
    """

    capturing_fault: str
    registering_stopped_by: tuple[str, ...]
    live_calls: int
    registrations: dict[str, int]
    troubles: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        facts = asdict(self)
        status = "failing" if self.capturing_fault else "degraded" if self.troubles else "ok"
        return {"status": status, **facts}


def health_routes(health: Callable[[], Awaitable[Health]]) -> list[web.RouteDef]:
    async def healthz(_: web.Request) -> web.Response:
        found = await health()
        return web.json_response(found.body(), status=503 if found.capturing_fault else 200)

    return [web.get("/healthz", healthz)]
