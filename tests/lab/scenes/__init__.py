"""Whole calls, one function each: every kind of call that a PBX has, for recording traces and for trying the lab.

A scene ends with no call left. Its docstring says what happened, from the office's point of view; beside it stands what
each of its calls must become.
"""

from __future__ import annotations

from tests.lab.scenes import freepbx, groups, moves, names, plain, rare, transfers
from tests.lab.scenes.catalogue import SCENES, Scene

__all__ = ["SCENES", "Scene", "freepbx", "groups", "moves", "names", "plain", "rare", "transfers"]
