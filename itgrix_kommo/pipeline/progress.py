"""How far a registration has come: what its row keeps, so that whoever takes it up again does nothing twice."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from itgrix_kommo.kommo.client import ClientType


class Entity(BaseModel):
    """Who was found in, or created for, the client. `is_sole`: nobody else has the phone."""

    type: ClientType
    id: int
    name: str = ""
    phones: list[str] = []
    responsible_id: int = 0
    is_new: bool = False
    is_sole: bool = True


class Deal(BaseModel):
    """The client's lead that the call belongs to: the one that is open, or the one we made. `is_unsorted`: it waits
    among the incoming ones under `uid`.
    """

    id: int
    name: str = ""
    responsible_id: int = 0
    pipeline_id: int = 0
    status_id: int = 0
    is_new: bool = False
    is_unsorted: bool = False
    uid: str = ""


class Card(BaseModel):
    """Where a call or task stands in Kommo."""

    id: int
    entity_type: str
    entity_id: int


class Writing(BaseModel):
    """A request whose answer is not known: what it writes, and with which body.

    It went out after `since`, perhaps much later, for it had to wait for its turn, and before `gone_by`, where that is
    known. Unix seconds.
    """

    what: str
    since: float
    body: dict[str, Any]
    gone_by: float | None = None


class Progress(BaseModel):
    """`hooks` are the verdicts of customizations by name (None: cancelled); `steps` are those that are done.

    `link` is the recording's; `link_is_due`: the call was written without it, for the file was not complete. `uniq` is
    what tells the call from all others in Kommo, from the first thing on that was written of it.
    """

    phone: str | None = None
    uniq: str = ""
    hooks: dict[str, dict[str, Any] | None] = {}
    entity: Entity | None = None
    open_leads: list[Deal] | None = None
    deal: Deal | None = None
    link: str = ""
    link_is_due: bool = False
    call: Card | None = None
    task: Card | None = None
    task_closed: bool = False
    steps: list[str] = []
    notes: list[str] = []
    writing: Writing | None = None
