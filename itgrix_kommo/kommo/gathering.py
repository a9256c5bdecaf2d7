"""What is asked for singly and answered together: requests are counted, the items in them are not."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

Q = TypeVar("Q")
A = TypeVar("A")


class Round(list[Q]):
    """The questions of one round."""

    def __init__(self, questions: Iterable[Q], turns: Sequence[asyncio.Future[Any]]) -> None:
        super().__init__(questions)
        self._turns = turns

    def is_awaited(self, place: int) -> bool:
        """Whether who asked the question at this place still waits for its answer."""
        return not self._turns[place].done()


class Gathering(Generic[Q, A]):
    """While one round is under way, the next one gathers: nobody waits for company, yet whoever waits has it.

    `answer` gets up to `most` questions and gives an answer for each, in order; what it raises, all of them get.
    """

    def __init__(self, answer: Callable[[Round[Q]], Awaitable[Sequence[A]]], *, most: int) -> None:
        self._answer = answer
        self._most = most
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._rounds: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer to one question. Who gives up before its round has begun is not asked for; later, see `Round`."""
        turn: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, turn))
        if self._rounds is None:
            # A context of its own: what is done for many is not to be told as the first one's.
            self._rounds = asyncio.create_task(self._go_round(), name="gathering", context=Context())
        return await turn

    async def _go_round(self) -> None:
        try:
            while self._waiting:
                asked = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                asked = [(question, turn) for question, turn in asked if not turn.done()]
                if asked:
                    await self._serve(asked)
        finally:
            self._rounds = None

    async def _serve(self, asked: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._answer(Round((question for question, _ in asked), [turn for _, turn in asked]))
            served = list(zip((turn for _, turn in asked), answers, strict=True))
        except Exception as error:  # noqa: BLE001 (it is theirs who asked)
            for _, turn in asked:
                if not turn.done():
                    turn.set_exception(error)
        else:
            for turn, answer in served:
                if not turn.done():
                    turn.set_result(answer)
