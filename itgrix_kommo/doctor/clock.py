"""Clocks that must agree: a call's times, a token's validity and what CEL fills up all hang on them."""

from __future__ import annotations

from typing import Final

from itgrix_kommo.doctor.findings import Finding, age, fault, ok, warning

NOTICEABLE: Final = 5.0
"""Seconds; an exchange over a slow network looks like two."""

WRONG: Final = 60.0
"""Seconds; beyond that a call is not where people look for it, and signed tokens are refused."""


def judge_clock(whose: str, theirs: float, ours: float) -> Finding:
    """Both in Unix seconds, `ours` of the moment in which they told theirs."""
    skew = theirs - ours
    if abs(skew) < NOTICEABLE:
        return ok(f"{whose} clock agrees with this host's")
    words = f"{whose} clock is {age(skew)} {'ahead of' if skew > 0 else 'behind'} this host's"
    remedy = "type timedatectl set-ntp true on the host whose clock is wrong (timedatectl shows it)"
    return (fault if abs(skew) >= WRONG else warning)(words, remedy)
