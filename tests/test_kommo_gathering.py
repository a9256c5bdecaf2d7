from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from itgrix_kommo.kommo.gathering import Gathering

if TYPE_CHECKING:
    from collections.abc import Sequence


class Oracle:
    """Doubles numbers, a round at a time, when it is let."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.has_begun = asyncio.Event()

    async def answer(self, questions: list[int]) -> Sequence[int]:
        self.rounds.append(questions)
        self.has_begun.set()
        await self.may_answer.wait()
        if 13 in questions:
            raise LookupError("13")
        return [2 * question for question in questions]


async def test_those_of_one_moment_go_together_and_those_of_the_next_gather_meanwhile() -> None:
    oracle = Oracle()
    gathering = Gathering(oracle.answer, most=3)
    first = asyncio.gather(*(gathering.ask(number) for number in range(4)))
    await oracle.has_begun.wait()
    second = asyncio.gather(*(gathering.ask(number) for number in (7, 8)))
    oracle.may_answer.set()
    assert await first == [0, 2, 4, 6]
    assert await second == [14, 16]
    assert oracle.rounds == [[0, 1, 2], [3, 7, 8]]
    assert await gathering.ask(9) == 18


async def test_what_a_round_raises_all_of_it_get_and_the_next_goes_on() -> None:
    oracle = Oracle()
    oracle.may_answer.set()
    gathering = Gathering(oracle.answer, most=2)
    answers = await asyncio.gather(*(gathering.ask(number) for number in (13, 1, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError, LookupError, int]


async def test_who_gives_up_before_his_round_is_not_asked_for_and_disturbs_nobody_after() -> None:
    oracle = Oracle()
    gathering = Gathering(oracle.answer, most=2)
    asked = [asyncio.create_task(gathering.ask(number)) for number in range(5)]
    await oracle.has_begun.wait()
    for task in (asked[0], asked[2], asked[3]):
        task.cancel()
    await asyncio.wait([asked[0], asked[2], asked[3]])
    oracle.may_answer.set()
    assert [await asked[1], await asked[4]] == [2, 8]
    assert oracle.rounds == [[0, 1], [4]]


async def test_who_gives_up_in_a_round_that_fails_gets_nothing() -> None:
    oracle = Oracle()
    gathering = Gathering(oracle.answer, most=2)
    asked = [asyncio.create_task(gathering.ask(number)) for number in (13, 1)]
    await oracle.has_begun.wait()
    asked[0].cancel()
    oracle.may_answer.set()
    with pytest.raises(LookupError):
        await asked[1]
    assert asked[0].cancelled()


async def test_an_answer_too_few_is_a_fault_of_all() -> None:
    async def lazy(questions: list[int]) -> Sequence[int]:
        return questions[1:]

    gathering = Gathering(lazy, most=2)
    answers = await asyncio.gather(*(gathering.ask(number) for number in (1, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, ValueError]
