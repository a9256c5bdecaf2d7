from __future__ import annotations

import pytest

from itgrix_kommo.errors import KommoBlocked
from itgrix_kommo.kommo.breaker import BLOCK_FOLLOWS, PROBE_AT_LEAST_EVERY, PROBE_EVERY, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def block(breaker: Breaker) -> None:
    assert breaker.refused("GET", "/api/v4/account", is_json=False, words="403") is not None


class TestWhatABlockIs:
    def test_the_web_servers_own_page(self, breaker: Breaker) -> None:
        error = breaker.refused("GET", "/api/v4/account", is_json=False, words="403")
        assert isinstance(error, KommoBlocked)
        assert error.status == 403
        assert breaker.reason == "403"

    def test_json_alone_is_a_missing_right(self, breaker: Breaker) -> None:
        assert breaker.refused("GET", "/api/v4/users", is_json=True, words="403") is None
        assert breaker.reason is None
        breaker.enter()

    def test_json_soon_after_a_429(self, breaker: Breaker, clock: Clock) -> None:
        breaker.answered("GET", "/api/v4/users", 429)
        clock.now += BLOCK_FOLLOWS - 1
        assert breaker.refused("GET", "/api/v4/users", is_json=True, words="403") is not None

    def test_json_long_after_a_429_is_a_missing_right(self, breaker: Breaker, clock: Clock) -> None:
        breaker.answered("GET", "/api/v4/users", 429)
        clock.now += BLOCK_FOLLOWS
        assert breaker.refused("GET", "/api/v4/users", is_json=True, words="403") is None

    def test_json_where_the_same_method_worked_before_whatever_the_id(self, breaker: Breaker) -> None:
        breaker.answered("PATCH", "/api/v4/leads/6601", 200)
        assert breaker.refused("POST", "/api/v4/leads", is_json=True, words="403") is None
        assert breaker.refused("PATCH", "/api/v4/leads/6602", is_json=True, words="403") is not None

    def test_a_method_that_was_refused_otherwise_has_not_worked(self, breaker: Breaker) -> None:
        breaker.answered("GET", "/api/v4/leads/1", 404)
        assert breaker.refused("GET", "/api/v4/leads/1", is_json=True, words="403") is None

    def test_a_right_that_was_taken_for_a_block_is_so_but_once(self, breaker: Breaker, clock: Clock) -> None:
        breaker.answered("PATCH", "/api/v4/leads/6601", 200)
        assert breaker.refused("PATCH", "/api/v4/leads/6602", is_json=True, words="403") is not None
        clock.now += PROBE_EVERY
        breaker.enter()
        breaker.answered("GET", "/api/v4/account", 200)
        breaker.answered("PATCH", "/api/v4/leads/6601", 200)
        assert breaker.refused("PATCH", "/api/v4/leads/6602", is_json=True, words="403") is None


class TestOpen:
    def test_everything_fails_fast_until_the_probe_and_then_one_request_goes(
        self, breaker: Breaker, clock: Clock
    ) -> None:
        block(breaker)
        clock.now += PROBE_EVERY - 1
        for stopped in (breaker.check, breaker.enter):
            with pytest.raises(KommoBlocked, match=r"next probe in 1 s") as caught:
                stopped()
            assert caught.value.status is None
        clock.now += 1
        breaker.check()
        breaker.enter()
        with pytest.raises(KommoBlocked):
            breaker.enter()

    def test_a_probe_that_never_came_back_is_followed_by_the_next(self, breaker: Breaker, clock: Clock) -> None:
        block(breaker)
        for _ in range(3):
            clock.now += PROBE_EVERY
            breaker.enter()

    def test_each_blocked_probe_doubles_the_wait_up_to_a_quarter_of_an_hour(
        self, breaker: Breaker, clock: Clock
    ) -> None:
        block(breaker)
        clock.now += PROBE_EVERY
        for wait in (120, 240, 480, PROBE_AT_LEAST_EVERY, PROBE_AT_LEAST_EVERY):
            breaker.enter()
            block(breaker)
            clock.now += wait - 1
            with pytest.raises(KommoBlocked):
                breaker.check()
            clock.now += 1

    def test_stragglers_sent_before_it_opened_do_not_lengthen_the_wait(self, breaker: Breaker, clock: Clock) -> None:
        for _ in range(6):
            block(breaker)
        clock.now += PROBE_EVERY
        breaker.enter()

    @pytest.mark.parametrize("status", [200, 204, 400, 401, 404])
    def test_an_answered_probe_closes_it(self, breaker: Breaker, clock: Clock, status: int) -> None:
        block(breaker)
        clock.now += PROBE_EVERY
        breaker.enter()
        breaker.answered("GET", "/api/v4/account", status)
        assert breaker.reason is None
        breaker.enter()
        breaker.enter()

    @pytest.mark.parametrize("status", [429, 502])
    def test_an_answer_that_shows_nothing_leaves_it_open(self, breaker: Breaker, clock: Clock, status: int) -> None:
        block(breaker)
        clock.now += PROBE_EVERY
        breaker.enter()
        breaker.answered("GET", "/api/v4/account", status)
        assert breaker.reason == "403"
