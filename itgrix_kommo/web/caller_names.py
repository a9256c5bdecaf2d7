"""Names as a phone shows them: short, and harmless on their way through a dialplan."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LONGEST: Final = 20
"""Characters that Asterisk and phones bear, by the vendor's contract."""

_JOINER: Final = "\u200d"
# Separators of the answer and of a dialplan's arguments, what begins an expression, what ends a caller ID.
_ACTIVE: Final = frozenset(';,"${}\\<>|`')
_SPACES: Final = re.compile(r"\s+")


def caller_name(name: str) -> str:
    """At most `LONGEST` characters of the name, no letter of it without its accents, no emoji without its parts."""
    text = _SPACES.sub(" ", "".join(map(_harmless, unicodedata.normalize("NFC", name)))).strip(f" {_JOINER}")
    if len(text) <= LONGEST:
        return text
    end = LONGEST
    while end > 0 and not _may_cut(text, end):
        end -= 1
    return text[:end].rstrip(f" {_JOINER}")


def _harmless(char: str) -> str:
    if char in _ACTIVE:
        return " "
    category = unicodedata.category(char)
    # Other format characters than the joiner of emoji turn the text around or hide in it.
    if category in {"Cf", "Co", "Cn", "Cs"} and char != _JOINER and not _is_tag(char):
        return ""
    return " " if category in {"Cc", "Zl", "Zp"} else char


def _may_cut(text: str, at: int) -> bool:
    """Whether a character as people see it ends before `at` (after UAX 29: marks, joiners, flags, emoji's tones)."""
    before, after = text[at - 1], text[at]
    if _JOINER in {before, after} or _is_tag(after) or _is_extending(after):
        return False
    if _is_flag_half(before) and _is_flag_half(after):
        halves = len(text[:at]) - len(text[:at].rstrip(_FLAG_HALVES))
        return halves % 2 == 0
    return True


def _is_extending(char: str) -> bool:
    return unicodedata.category(char) in {"Mn", "Mc", "Me"} or "\U0001f3fb" <= char <= "\U0001f3ff"


def _is_tag(char: str) -> bool:
    return "\U000e0020" <= char <= "\U000e007f"


def _is_flag_half(char: str) -> bool:
    return char in _FLAG_HALVES


_FLAG_HALVES: Final = "".join(map(chr, range(0x1F1E6, 0x1F200)))
