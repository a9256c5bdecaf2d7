"""Whole calls, one function each: every kind of call that a PBX has, for recording traces and for trying the lab.

A scene ends with no call left. Its docstring says what happened, from the office's point of view.
"""

from __future__ import annotations

from tests.lab.scenes import freepbx, moves, plain
from tests.lab.scenes.catalogue import SCENES, Scene

__all__ = ["SCENES", "Scene", "freepbx", "moves", "plain"]
