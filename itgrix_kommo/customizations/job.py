"""A file to run, and how our own runners reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from itgrix_kommo.customizations.answer import LARGEST_ANSWER
from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from itgrix_kommo.customizations.finding import HookFile


class Job(NamedTuple):
    """A file to run, and its payload as JSON."""

    file: HookFile
    payload: bytes


class Reply(NamedTuple):
    """How our own runners answer: `kind` is ``A``, an answer as JSON, or ``F``, a failure in words."""

    kind: bytes
    body: bytes

    def answer(self) -> bytes:
        """The answer's JSON. Raises HookError on a failure."""
        if self.kind != b"A":
            raise HookError(self.body.decode("utf-8", "backslashreplace"))
        return self.body


def too_large() -> HookError:
    return HookError(f"the answer is larger than {LARGEST_ANSWER} bytes: return the changed data alone")
