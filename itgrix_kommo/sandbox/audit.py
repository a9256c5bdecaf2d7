"""What was asked of the sandbox, how fast, and what exists twice because of it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import matching
from .limiter import Verdict
from .records import Kind

if TYPE_CHECKING:
    from .account import Account

_KEPT = 10_000  # requests; a sandbox left running for a week must not eat the machine
_SECRETS = frozenset({"client_secret", "code", "refresh_token", "access_token"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One request to the API. `status` is 0 where it got no answer; `body` is parsed JSON, else text."""

    number: int
    at: float
    method: str
    path: str
    query: str
    body: Any
    status: int
    took: float  # seconds
    user_agent: str
    fault: str | None = None  # the injected effect
    verdict: str = Verdict.PASS.value


class Audit:
    def __init__(self, account: Account) -> None:
        self._account = account
        self.requests: deque[Seen] = deque(maxlen=_KEPT)
        self.total = 0
        self.most_in_a_second = 0
        self.breaches = 0  # requests beyond the limit, or while blocked
        self.impatient = 0  # requests that did not wait for a `retry_after` they had been told
        self._patience_until = 0.0

    def arrived(self, at: float, in_this_second: int, verdict: Verdict) -> int:
        """Counts a request and gives it its number."""
        self.total += 1
        self.most_in_a_second = max(self.most_in_a_second, in_this_second)
        self.breaches += verdict is not Verdict.PASS
        self.impatient += at < self._patience_until
        return self.total

    def told_to_wait(self, until: float) -> None:
        self._patience_until = max(self._patience_until, until)

    def record(self, seen: Seen) -> None:
        self.requests.append(seen)

    def asked(self, method: str, path: str) -> list[Seen]:
        """The requests with exactly this method and path."""
        return [seen for seen in self.requests if (seen.method, seen.path) == (method, path)]

    def duplicates(self) -> dict[str, dict[str, list[int | str]]]:
        """By kind of doubling: what it has in common → the ids. Everything here is a client's mistake or bad luck."""
        account = self._account
        clients = [card for kind in (Kind.CONTACTS, Kind.COMPANIES) for card in account.cards[kind].values()]
        return {
            "calls_by_uniq": _repeated((note.params.get("uniq"), note.id) for note in account.calls),
            "contacts_by_phone": _repeated(
                (matching.suffix(phone, matching.CALL_DIGITS), card.id)
                for card in account.contacts.values()
                if not card.is_deleted
                for phone in set(matching.phones(account, card))
            ),
            "open_leads_by_client": {
                f"{card.kind}/{card.id}": [lead.id for lead in leads]
                for card in clients
                if len(leads := account.open_leads(card)) > 1
            },
            "open_tasks_by_card_and_text": _repeated(
                (f"{task.entity_type}/{task.entity_id}: {task.text}", task.id)
                for task in account.tasks.values()
                if not task.is_completed
            ),
            "unsorted_by_uniq": _repeated(
                (entry.metadata.get("uniq"), entry.uid)
                for entry in account.unsorted.values()
                if entry.category == "sip"
            ),
            "created_by_request_id": _repeated(
                (f"{made.what}: {made.request_id}", made.id) for made in account.creations if made.request_id
            ),
            "webhooks_by_destination": _repeated((hook.destination, hook.id) for hook in account.webhooks.values()),
        }

    def report(self) -> dict[str, Any]:
        """All of it as JSON, for `GET /sandbox/audit`."""
        return {
            "total": self.total,
            "most_in_a_second": self.most_in_a_second,
            "breaches": self.breaches,
            "impatient": self.impatient,
            "by_user_agent": Counter(seen.user_agent for seen in self.requests),
            "duplicates": self.duplicates(),
            "created": [asdict(made) for made in self._account.creations],
            "popups": [asdict(popup) for popup in self._account.popups],
            "requests": [asdict(seen) for seen in self.requests],
        }


def without_secrets(body: Any) -> Any:
    """A copy of an OAuth body that may be shown; what is no object is not shown at all."""
    if not isinstance(body, dict):
        return None
    return {key: "***" if key in _SECRETS else value for key, value in body.items()}


def _repeated(pairs: Iterable[tuple[Hashable, int | str]]) -> dict[str, list[int | str]]:
    groups: dict[Hashable, list[int | str]] = defaultdict(list)
    for key, record_id in pairs:
        if key:
            groups[key].append(record_id)
    return {str(key): ids for key, ids in groups.items() if len(ids) > 1}
