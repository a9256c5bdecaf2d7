"""A Kommo account to try the client on, and what is written to it again and again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from itgrix_kommo.kommo.batches import Added, Outcome
from itgrix_kommo.kommo.bodies import for_api
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.retry import Backoff
from itgrix_kommo.kommo.transport import LongLivedToken, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from itgrix_kommo.sandbox import Sandbox

PHONE = "+12025550143"


@asynccontextmanager
async def connect(
    sandbox: Sandbox, *, per_second: int = 6, token: str | None = None, **more: Any
) -> AsyncIterator[KommoClient]:
    tokens = LongLivedToken(token or sandbox.options.admin_token)
    async with Transport(sandbox.url, tokens, Limiter(per_second), **more) as transport:
        yield KommoClient(transport, retry=Backoff(attempts=3, first=0.01, patience=10))


def contact(phone: str = PHONE, **more: object) -> dict[str, object]:
    field = {"field_code": "PHONE", "values": [{"value": phone, "enum_code": "WORK"}]}
    return {"name": f"Contact {phone}", "custom_fields_values": [field], **more}


def call(phone: str = PHONE, **more: object) -> dict[str, object]:
    return {"direction": "inbound", "phone": phone, "duration": 54, "source": "itgrix_amo", "uniq": "17.1", **more}


def ids(outcomes: list[Outcome]) -> list[int]:
    added = [outcome.id for outcome in outcomes if isinstance(outcome, Added)]
    assert len(added) == len(outcomes), outcomes
    return added


async def created(client: KommoClient, *bodies: dict[str, object]) -> list[int]:
    return ids(await client.create_contacts(bodies))


def unsorted(uniq: str = "17.1", **more: object) -> dict[str, object]:
    return for_api(
        "unsorted",
        {
            "call_full": {},
            "_embedded": {
                "contacts": [{**contact(), "tags": ["Itgrix"]}],
                "leads": [{"name": f"{PHONE} - incoming", "pipeline_id": 7001, "tags": [{"name": "Itgrix"}]}],
            },
            "created_at": 1760000000,
            "metadata": {
                "called_at": 1760000000,
                "duration": 54,
                "from": PHONE,
                "is_call_event_needed": False,
                "link": "",
                "phone": PHONE,
                "service_code": "itgrix_amo",
                "uniq": uniq,
            },
            "pipeline_id": 7001,
            "source_name": "itgrix_amo",
            "source_uid": uniq,
            **more,
        },
    )
