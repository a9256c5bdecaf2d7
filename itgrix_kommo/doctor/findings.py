"""What an examination finds: one line each, a verdict, what is so, and what an admin is to type."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_JSON: Final = re.compile(r"\{[^{}]*\}")


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`words` say what is so; of what was skipped, why. `remedy` is empty where nothing is to be done."""

    verdict: Verdict
    words: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A finding and the check that made it: `group` is the outside thing, `name` what of it was examined."""

    group: str
    name: str
    finding: Finding


def ok(words: str) -> Finding:
    return Finding(Verdict.OK, words)


def warning(words: str, remedy: str) -> Finding:
    """It works, but worse than it could, or not for long."""
    return Finding(Verdict.WARNING, words, remedy)


def fault(words: str, remedy: str) -> Finding:
    """Something the daemon does will fail until a person has acted."""
    return Finding(Verdict.FAULT, words, remedy)


def skipped(reason: str) -> Finding:
    return Finding(Verdict.SKIPPED, reason)


def split(line: str) -> tuple[str, str]:
    """(words, remedy) of a message of ours, which ends with its remedy after the last colon outside of JSON."""
    outside = _JSON.sub(lambda found: "-" * len(found[0]), line)
    at = outside.rfind(": ")
    return (line[:at], line[at + 2 :]) if at > 0 else (line, "")


def worst(results: Iterable[Result]) -> Verdict:
    found = {result.finding.verdict for result in results}
    return next((one for one in (Verdict.FAULT, Verdict.WARNING) if one in found), Verdict.OK)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def age(seconds: float) -> str:
    """A span of time as a person says it."""
    for size, noun in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if abs(seconds) >= size:
            return count(round(abs(seconds) / size), noun)
    return f"{abs(seconds):.0f} s"
