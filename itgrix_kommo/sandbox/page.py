"""A look into the account: one page of tables that keeps itself up to date."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import matching
from .limiter import Verdict
from .records import Card, Kind, Note

if TYPE_CHECKING:
    from .server import Sandbox

_ROWS = 40  # newest records of each table
_CALL_STATUS = {
    1: "left a message",
    2: "call back later",
    3: "not available",
    4: "talked",
    5: "wrong number",
    6: "no connection",
    7: "busy",
}
_R = TypeVar("_R")


def routes(sandbox: Sandbox) -> list[web.RouteDef]:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    boot = secrets.token_hex(4)  # a restarted sandbox counts its revisions anew

    async def page(_: web.Request) -> web.Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        text = templates.get_template("page.html").render(nonce=nonce, account=sandbox.account, **tables(sandbox))
        return web.Response(
            body=text.encode(errors="replace"),
            content_type="text/html",
            charset="utf-8",
            headers={
                "Content-Security-Policy": policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            },
        )

    async def fragment(request: web.Request) -> web.Response:
        """The tables alone; 304 while nothing has changed."""
        tag = f'"{boot}-{sandbox.account.revision}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        text = templates.get_template("tables.html").render(**tables(sandbox))
        headers = {"ETag": tag, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        body = text.encode(errors="replace")  # a lone surrogate in somebody's name is no reason to fail
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    return [web.get("/", page), web.get("/sandbox/tables", fragment)]


def tables(sandbox: Sandbox) -> dict[str, Any]:
    """What the templates show: plain values, newest first. Nothing is escaped here, the templates do."""
    account, audit = sandbox.account, sandbox.audit
    return {
        "counters": {
            "requests": audit.total,
            "fastest second": f"{audit.most_in_a_second} of {sandbox.switches.requests_per_second}",
            "refused": audit.breaches,
            "duplicates": sum(len(found) for found in audit.duplicates().values()),
        },
        "blocked": sandbox.limiter.blocked,
        "faults": [fault.effect for fault in sandbox.faults.armed],
        "calls": [_call(sandbox, note) for note in _newest(account.calls)],
        "contacts": [_contact(sandbox, card) for card in _newest(account.contacts.values())],
        "leads": [_lead(sandbox, card) for card in _newest(account.leads.values())],
        "tasks": [
            {
                "key": f"task-{task.id}",
                "id": task.id,
                "text": task.text,
                "due": clock_text(task.complete_till),
                "card": f"{task.entity_type.singular} {task.entity_id}" if task.entity_type else "",
                "user": user_name(sandbox, task.responsible_user_id),
                "state": "done" if task.is_completed else "open",
            }
            for task in _newest(account.tasks.values())
        ],
        "unsorted": [
            {
                "key": f"unsorted-{entry.uid}-{entry.state}",
                "at": clock_text(entry.created_at),
                "category": entry.category,
                "phone": entry.metadata.get("phone", ""),
                "lead": account.leads[entry.lead_id].name,
                "lead_id": entry.lead_id,
                "pipeline": account.pipelines[entry.pipeline_id].name,
                "state": entry.state,
            }
            for entry in _newest(account.unsorted.values())
        ],
        "popups": [
            {
                "key": f"popup-{popup.uid}",
                "at": clock_text(popup.at),
                "phone": popup.phone,
                "users": "everybody" if popup.to_everyone else ", ".join(user_name(sandbox, u) for u in popup.users),
                "card": f"{_element(popup.element_type)} {popup.element_id}" if popup.element_id else "unknown client",
            }
            for popup in _newest(account.popups)
        ],
        "requests": [
            {
                "key": f"request-{seen.number}",
                "at": clock_text(seen.at),
                "method": seen.method,
                "path": seen.path + (f"?{seen.query}" if seen.query else ""),
                "status": seen.status or "none",
                "good": 200 <= seen.status < 300,
                "note": seen.fault or (seen.verdict if seen.verdict != Verdict.PASS.value else ""),
            }
            for seen in _newest(audit.requests)
        ],
    }


def _newest(records: Iterable[_R]) -> list[_R]:
    return list(islice(reversed(list(records)), _ROWS))


def _call(sandbox: Sandbox, note: Note) -> dict[str, Any]:
    card = sandbox.account.cards[note.kind][note.entity_id]
    params = note.params
    minutes, seconds = divmod(int(params.get("duration", 0)), 60)
    link = str(params.get("link", ""))
    callee = params.get("call_responsible", note.created_by)
    return {
        "key": f"call-{note.id}-{note.updated_at}",
        "at": clock_text(note.created_at),
        "inbound": note.note_type == "call_in",
        "phone": params.get("phone", ""),
        "card": f"{card.kind.singular} {card.id}",
        "name": card.name,
        "user": user_name(sandbox, callee) if isinstance(callee, int) else callee,
        "duration": f"{minutes}:{seconds:02}",
        "result": params.get("call_result") or _CALL_STATUS.get(params.get("call_status", 0), ""),
        "link": link if urlsplit(link).scheme in {"http", "https"} else "",
    }


def _contact(sandbox: Sandbox, card: Card) -> dict[str, Any]:
    return {
        "key": f"contact-{card.id}-{card.updated_at}",
        "id": card.id,
        "name": card.name,
        "phones": ", ".join(matching.phones(sandbox.account, card)),
        "user": user_name(sandbox, card.responsible_user_id),
        "tags": ", ".join(sandbox.account.tags[Kind.CONTACTS][tag_id] for tag_id in card.tags),
        "state": _state(card),
    }


def _lead(sandbox: Sandbox, card: Card) -> dict[str, Any]:
    line = sandbox.account.pipelines[card.pipeline_id]
    stage = line.status(card.status_id)
    return {
        "key": f"lead-{card.id}-{card.updated_at}",
        "id": card.id,
        "name": card.name,
        "stage": f"{line.name}: {stage.name if stage else card.status_id}",
        "contacts": ", ".join(contact.name for contact in sandbox.account.linked(card, Kind.CONTACTS)),
        "user": user_name(sandbox, card.responsible_user_id),
        "tags": ", ".join(sandbox.account.tags[Kind.LEADS][tag_id] for tag_id in card.tags),
        "state": _state(card),
    }


def _state(card: Card) -> str:
    return "deleted" if card.is_deleted else "unsorted" if card.is_unsorted else ""


def _element(element_type: int | None) -> str:
    return next((kind.singular for kind in Kind if kind.element_type == element_type), "")


def user_name(sandbox: Sandbox, user_id: int) -> str:
    user = sandbox.account.users.get(user_id)
    return user.name if user else "robot"


def clock_text(moment: float) -> str:
    """`HH:MM:SS` of this machine's day."""
    return f"{datetime.fromtimestamp(moment, UTC).astimezone():%H:%M:%S}"
