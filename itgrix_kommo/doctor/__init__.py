"""The doctor: goes through everything outside that the daemon needs, and says of each fault what to type.

It disturbs nobody: it places no call, writes nothing to Kommo, opens the daemon's data for reading alone, and works
beside a running daemon as without one. Every subject has its module, every check its line.
"""

from __future__ import annotations

from pathlib import Path

from itgrix_kommo.config import Config
from itgrix_kommo.doctor import asterisk, database, hooks, kommo, nodes, recordings, storage, web
from itgrix_kommo.doctor.examination import Check, Patient, StrayThreads, examine
from itgrix_kommo.doctor.findings import Finding, Result, Verdict, worst

__all__ = ["Finding", "Patient", "Result", "StrayThreads", "Verdict", "checks", "examination", "examine", "worst"]


_ROOMS = (storage, nodes, web, asterisk, kommo, database, hooks, recordings)


def checks(patient: Patient) -> list[Check]:
    """All of them, those of one group together."""
    found = [check for room in _ROOMS for check in room.checks(patient)]
    order = {group: at for at, group in enumerate(dict.fromkeys(check.group for check in found))}
    return sorted(found, key=lambda check: order[check.group])


async def examination(config: Config, file: Path, *, run_hooks: bool = False) -> list[Result]:
    """Everything, side by side, within half a minute; `file` is where the configuration came from."""
    patient = Patient(config, file, run_hooks=run_hooks)
    try:
        return await examine(checks(patient))
    finally:
        await patient.dismiss()
