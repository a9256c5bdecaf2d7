"""What goes wrong on request: an answer lost after the work was done, a block, a hang, nonsense for a body."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .switches import Seconds

if TYPE_CHECKING:
    from .switches import Switches


class Fault(BaseModel):
    """Strikes requests whose path fits: `skip` of them go well first, then `count` are struck (None: all).

    | effect | what the client sees |
    |---|---|
    | status | `status` with Kommo's body for it; 429 tells `retry_after` |
    | block | 403 as the web server's HTML page |
    | disconnect | the connection closed without an answer |
    | hang | no answer for `seconds`, then the connection closed |
    | slow | the true answer, `seconds` late |
    | html | 200 with a page of HTML |
    | truncated | 200 with the first half of the JSON |
    | empty | 200 without a body |

    `committed`: the request is carried out first, so that only its answer is lost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    effect: Literal["status", "block", "disconnect", "hang", "slow", "html", "truncated", "empty"]
    path: str = "*"  # as in a shell: `/api/v4/leads*`
    method: str = "*"
    skip: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1)] | None = 1
    committed: bool = False
    status: Annotated[int, Field(ge=300, le=599)] = 500
    retry_after: Annotated[int, Field(ge=0)] | None = None  # seconds, default the switch's
    seconds: Seconds = 30.0

    def fits(self, method: str, path: str) -> bool:
        return fnmatchcase(method, self.method.upper()) and fnmatchcase(path, self.path)


class _Armed:
    """A fault and how often it has met a request that fits."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.met = 0

    @property
    def struck(self) -> int:
        return max(0, self.met - self.fault.skip)

    @property
    def is_spent(self) -> bool:
        return self.fault.count is not None and self.struck >= self.fault.count


class Faults:
    """The faults that are armed, first come first struck, and the lasting switches."""

    def __init__(self, switches: Switches) -> None:
        self.switches = switches
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        self._armed.append(_Armed(fault))

    def clear(self) -> None:
        self._armed.clear()

    @property
    def armed(self) -> list[Fault]:
        """Those that will still strike."""
        return [armed.fault for armed in self._armed]

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request, if one does."""
        for armed in self._armed:
            if armed.fault.fits(method, path):
                armed.met += 1
                if armed.struck:
                    if armed.is_spent:
                        self._armed.remove(armed)
                    return armed.fault
        return None
