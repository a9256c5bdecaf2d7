"""The 13 customizations: what they are asked (`catalogue`), how their files are run, and what their answers mean.

Files run outside the daemon's process and can be killed; nothing here knows Asterisk or Kommo.
"""

from __future__ import annotations

from itgrix_kommo.customizations.answer import Answer, Cancelled, Data, Failed, read_answer
from itgrix_kommo.customizations.catalogue import CATALOGUE, HookSpec, Lane, Stage
from itgrix_kommo.customizations.customizer import Customizer, Record, Verdict
from itgrix_kommo.customizations.finding import Findings, HookFile, Kind, find

__all__ = [
    "CATALOGUE",
    "Answer",
    "Cancelled",
    "Customizer",
    "Data",
    "Failed",
    "Findings",
    "HookFile",
    "HookSpec",
    "Kind",
    "Lane",
    "Record",
    "Stage",
    "Verdict",
    "find",
    "read_answer",
]
