"""From the file that Asterisk writes to a link that plays in the CRM's card.

    named by Asterisk ─▶ finding ─▶ completeness ─▶ (hook 7) ─▶ conversion ─▶ converted (the cache)
                                                                  └ worker ─ audio, ffmpeg
    the card ─▶ links ─▶ serving ─▶ ranges

`archive.Recordings` is what the other rooms use; `checks.examine` is for the doctor. This file imports nothing: the
worker processes load it, and stay small.
"""

from __future__ import annotations
