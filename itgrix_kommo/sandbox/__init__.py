"""A Kommo account in memory, with the real API's shapes, limits and moods: for tests, the demo and integrators."""

from __future__ import annotations

from .clock import Clock, ManualClock, SystemClock
from .faults import Fault
from .options import SandboxOptions
from .records import Kind
from .server import Sandbox, run_sandbox
from .switches import Switches

__all__ = [
    "Clock",
    "Fault",
    "Kind",
    "ManualClock",
    "Sandbox",
    "SandboxOptions",
    "Switches",
    "SystemClock",
    "run_sandbox",
]
