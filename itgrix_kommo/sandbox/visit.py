"""One authorised request to the API: who asks, what for, and how Kommo would answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from itgrix_kommo.kommo import brackets

from .problems import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .account import Account
    from .records import User

    Handler = Callable[["Visit"], Awaitable[web.Response]]

R = TypeVar("R")
HAL_JSON = "application/hal+json"
LARGEST_PAGE = 250
_USUAL_PAGE = 50


@dataclass(slots=True)
class Visit:
    request: web.Request
    account: Account
    user: User
    query: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.query = brackets.parse(self.request.query.items())

    @property
    def base(self) -> str:
        return str(self.request.url.origin())

    @property
    def with_(self) -> set[str]:
        return {word.strip() for word in str(self.query.get("with", "")).split(",")}

    def part(self, name: str) -> str:
        return self.request.match_info[name]

    def id(self, name: str = "id") -> int:
        """0, which is nobody's, for digits that no id could be."""
        return brackets.whole(self.request.match_info[name]) or 0

    def admin_only(self) -> None:
        if not self.user.is_admin:
            raise ApiError(403)

    async def json(self) -> Any:
        """The body; a body that is absent, is no JSON, or is not declared as JSON was never there for Kommo."""
        if not self.request.content_type.endswith("json"):
            raise ApiError(400)
        try:
            return json.loads(await self.request.read())
        except (ValueError, RecursionError):  # also a number of thousands of digits, and bytes that are no text
            raise ApiError(400) from None

    def filter(self, name: str) -> list[str]:
        """The values of `filter[name]`, `[]` or not; empty when it is not there."""
        tree = self.query.get("filter")
        return brackets.listed(tree.get(name)) if isinstance(tree, dict) else []

    def answer(self, body: object, status: int = 200) -> web.Response:
        return web.Response(status=status, text=json.dumps(body), content_type=HAL_JSON)

    def embed(self, key: str, items: Sequence[object], **more: Any) -> web.Response:
        """The answer to a request that wrote: what was written, under `_embedded`."""
        return self.answer({**more, "_links": {"self": {"href": str(self.request.url)}}, "_embedded": {key: items}})

    def listing(
        self,
        key: str,
        records: Sequence[R],
        shape: Callable[[R], dict[str, Any]],
        *,
        largest: int = LARGEST_PAGE,
        totals: bool = False,
    ) -> web.Response:
        """One page of a list: 204 where there is nothing (more), `_links.next` only where there is more.

        With `totals` also `_total_items`, `_page_count` and the last page's link, as users and fields have them.
        """
        number, size = self._whole("page", 1), self._whole("limit", _USUAL_PAGE)
        if size > largest:
            raise ApiError(422, f"Limit {largest} per page")
        shown = records[(number - 1) * size : number * size]
        if not shown:
            return empty()
        pages = -(-len(records) // size)
        links = {"self": self._page_link(number, size)}
        if number < pages:
            links["next"] = self._page_link(number + 1, size)
        body: dict[str, Any] = {"_page": number}
        if totals:
            body = {"_total_items": len(records)} | body | {"_page_count": pages}
            links["last"] = self._page_link(pages, size)
        return self.answer(body | {"_links": links, "_embedded": {key: [shape(record) for record in shown]}})

    def _page_link(self, number: int, size: int) -> dict[str, str]:
        return {"href": str(self.request.url.update_query(page=number, limit=size))}

    def _whole(self, name: str, default: int) -> int:
        given = self.query.get(name, "")
        if given == "":
            return default
        number = brackets.whole(given)
        if not number:
            raise ApiError(400, f"Invalid {name}")
        return number


def empty() -> web.Response:
    """204: Kommo's way to say that there is nothing."""
    return web.Response(status=204)
