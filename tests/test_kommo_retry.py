from __future__ import annotations

import pytest

from itgrix_kommo.errors import (
    KommoBlocked,
    KommoError,
    KommoFault,
    KommoOverloaded,
    KommoRejected,
    KommoTooHeavy,
    KommoUnauthorized,
    KommoUnreachable,
)
from itgrix_kommo.kommo.retry import READS, Backoff

STEADY = Backoff(attempts=None, first=1, ceiling=8, dice=lambda: 0.5)


class TestBackoff:
    def test_pauses_double_up_to_the_ceiling(self) -> None:
        assert [STEADY(KommoFault("x"), failed) for failed in range(1, 7)] == [1, 2, 4, 8, 8, 8]

    def test_days_of_failing_overflow_nothing(self) -> None:
        assert STEADY(KommoFault("x"), 10**9) == 8

    @pytest.mark.parametrize(("dice", "pause"), [(0.0, 0.5), (1.0, 1.5)])
    def test_jitter_spreads_them(self, dice: float, pause: float) -> None:
        assert Backoff(attempts=None, first=1, dice=lambda: dice)(KommoFault("x"), 1) == pause

    def test_it_gives_up_after_its_attempts(self) -> None:
        strategy = Backoff(attempts=2, first=1, dice=lambda: 0.5)
        assert strategy(KommoTooHeavy("x"), 1) == 1
        assert strategy(KommoTooHeavy("x"), 2) is None

    def test_kommos_own_wish_is_kept_where_it_is_the_longer(self) -> None:
        assert STEADY(KommoOverloaded("x", retry_after=300), 1) == 300
        assert STEADY(KommoOverloaded("x", retry_after=0.1), 1) == 1
        assert STEADY(KommoOverloaded("x"), 1) == 1

    @pytest.mark.parametrize("error", [KommoBlocked("x"), KommoUnauthorized("x"), KommoRejected("x", status=400)])
    def test_what_time_does_not_mend_is_not_repeated(self, error: KommoError) -> None:
        assert STEADY(error, 1) is None


class TestReads:
    def test_a_lost_answer_is_worth_three_attempts(self) -> None:
        assert READS(KommoUnreachable("x"), 2) is not None
        assert READS(KommoUnreachable("x"), 3) is None

    def test_nobody_is_kept_for_minutes(self) -> None:
        assert READS(KommoOverloaded("x", retry_after=300), 1) is None
