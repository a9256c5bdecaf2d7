"""Lists that are refused, too heavy or half answered, against a Kommo that tells of all it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.errors import (
    KommoError,
    KommoFault,
    KommoNotFound,
    KommoOverloaded,
    KommoRejected,
    KommoTooHeavy,
    KommoUnreachable,
)
from itgrix_kommo.kommo.answers import Answer
from itgrix_kommo.kommo.batches import Added, Outcome, Refused, Unanswered
from itgrix_kommo.kommo.exchange import Exchange
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.retry import READS
from itgrix_kommo.kommo.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATH = "/api/v4/contacts"


class PickyTransport(Transport):
    """Writes whole lists or none of them; refuses those with a bad item, and says which one or not."""

    def __init__(self, *, bad: frozenset[str] = frozenset(), heavier_than: int = 250, names: bool = True) -> None:
        self.bad = bad
        self.heavier_than = heavier_than
        self.names = names
        self.refuse: Callable[[object], KommoError] = _rejected
        self.failures: dict[int, KommoError] = {}
        self.sizes: list[int] = []
        self.written: list[str] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        priority: Priority,  # noqa: ARG002 (the transport's)
        params: Sequence[tuple[str, str]] = (),  # noqa: ARG002 (the transport's)
        body: object = None,
    ) -> Answer:
        assert callable(body)
        body = body()
        assert isinstance(body, list)
        self.sizes.append(len(body))
        if failure := self.failures.pop(len(self.sizes), None):
            raise failure
        if len(body) > self.heavier_than:
            raise KommoTooHeavy("too heavy", status=504, may_have_happened=True)
        names = [item["request_id"] for item in body]
        if faulty := [name for name in names if name in self.bad]:
            told = [{"request_id": name, "errors": [{"path": "x", "code": "Y", "detail": "Z"}]} for name in faulty]
            raise self.refuse({"validation-errors": told} if self.names else {"title": "Bad Request"})
        self.written += names
        items = [{"id": 1000 + int(name), "request_id": name} for name in names]
        return Answer(f"{method} {path}", 200, {"_embedded": {"contacts": items}})


def _rejected(problem: object) -> KommoError:
    return KommoRejected("Kommo refuses it", status=400, problem=problem)


async def write(transport: PickyTransport, count: int, **more: Any) -> list[Outcome]:
    return await exchange_of(transport).write("POST", PATH, "contacts", [{}] * count, Priority.REGISTRATION, **more)


def exchange_of(transport: PickyTransport) -> Exchange:
    async def sleep(_: float) -> None:
        raise AssertionError("writes are not waited for")

    return Exchange(transport, retry=READS, sleep=sleep)


class TestRefused:
    @given(count=st.integers(1, 120), culprits=st.frozensets(st.integers(0, 119), max_size=6), names=st.booleans())
    async def test_each_culprit_is_named_and_all_others_are_written_once(
        self, *, count: int, culprits: frozenset[int], names: bool
    ) -> None:
        bad = frozenset(str(number) for number in culprits if number < count)
        transport = PickyTransport(bad=bad, names=names)
        outcomes = await write(transport, count)
        assert [one.request_id for one in outcomes] == [str(number) for number in range(count)]
        for one in outcomes:
            assert type(one) is (Refused if one.request_id in bad else Added)
        assert sorted(transport.written, key=int) == [str(number) for number in range(count) if str(number) not in bad]

    async def test_a_culprit_that_is_named_costs_one_more_request(self) -> None:
        transport = PickyTransport(bad=frozenset({"3", "9"}))
        await write(transport, 50)
        assert transport.sizes == [50, 48]

    async def test_a_culprit_that_is_not_is_found_by_halves(self) -> None:
        transport = PickyTransport(bad=frozenset({"3"}), names=False)
        await write(transport, 8)
        assert transport.sizes == [8, 4, 2, 2, 1, 1, 4]

    async def test_a_parent_that_kommo_does_not_know_is_one_items_fault_too(self) -> None:
        transport = PickyTransport(bad=frozenset({"1"}), names=False)
        transport.refuse = lambda _: KommoNotFound("Pipeline not found", status=404)
        outcomes = await write(transport, 3)
        assert [type(one) for one in outcomes] == [Added, Refused, Added]

    async def test_what_fails_while_culprits_are_looked_for_stops_the_search(self) -> None:
        transport = PickyTransport(bad=frozenset({"0"}), names=False)
        transport.failures = {2: KommoOverloaded("wait", retry_after=300)}
        outcomes = await write(transport, 4)
        assert transport.sizes == [4, 2]
        errors = [one.error for one in outcomes if isinstance(one, Unanswered)]
        assert len(errors) == 4
        assert not any(error.may_have_happened for error in errors)
        assert [isinstance(error, KommoOverloaded) for error in errors] == [True, True, False, False]


class TestTooHeavy:
    async def test_what_does_no_harm_twice_goes_again_in_halves(self) -> None:
        transport = PickyTransport(heavier_than=10)
        outcomes = await write(transport, 60, is_repeatable=True)
        assert all(isinstance(one, Added) for one in outcomes)
        assert max(transport.sizes[3:]) <= 13
        assert len(transport.written) == len(set(transport.written)) == 60

    async def test_what_surely_was_not_written_too(self) -> None:
        transport = PickyTransport()
        transport.failures = {1: KommoTooHeavy("413", status=413)}
        outcomes = await write(transport, 50)
        assert all(isinstance(one, Added) for one in outcomes)
        assert transport.sizes == [50, 25, 25]

    async def test_the_rest_is_told_and_the_next_is_smaller_until_it_goes_well_again(self) -> None:
        transport = PickyTransport(heavier_than=30)
        exchange = exchange_of(transport)

        async def again(count: int) -> list[Outcome]:
            return await exchange.write("POST", PATH, "contacts", [{}] * count, Priority.REGISTRATION)

        first = await again(50)
        assert all(isinstance(one, Unanswered) and one.error.may_have_happened for one in first)
        assert all(isinstance(one, Added) for one in await again(50))
        assert transport.sizes == [50, 25, 25]
        await again(26)
        assert transport.sizes[3:] == [26]
        await again(27)
        assert transport.sizes[4:] == [27]

    async def test_a_single_item_can_not_be_halved(self) -> None:
        transport = PickyTransport(heavier_than=0)
        [outcome] = await write(transport, 1, is_repeatable=True)
        assert isinstance(outcome, Unanswered)
        assert transport.sizes == [1]


@pytest.mark.parametrize("error", [KommoFault("x", status=500, may_have_happened=True), KommoUnreachable("x")])
async def test_a_failure_is_not_repeated_and_stops_what_would_follow(error: KommoError) -> None:
    transport = PickyTransport()
    transport.failures = {2: error}
    outcomes = await write(transport, 150)
    assert transport.sizes == [50, 50]
    assert all(isinstance(one, Added) for one in outcomes[:50])
    assert outcomes[50:100] == [Unanswered(str(number), error) for number in range(50, 100)]
    assert all(isinstance(one, Unanswered) and "was not sent" in str(one.error) for one in outcomes[100:])
