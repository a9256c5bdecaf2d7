"""How a sandbox starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import seed
from .clock import Clock, SystemClock
from .faults import Fault
from .switches import Switches


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The defaults make an account that knows no client yet; a copy of `switches` is taken."""

    subdomain: str = "acme"
    account_id: int = 31_000_001
    admin_token: str = field(default="sandbox-token", repr=False)
    admin_id: int = seed.ANN
    user_token: str = field(default="sandbox-user-token", repr=False)  # a user without administrator's rights
    user_id: int = seed.BORIS
    client_id: str = "7c1d5c2e-0b6f-4f0a-9a53-5d2f6a1b8c9d"
    client_secret: str = field(default="sandbox-secret", repr=False)
    redirect_uri: str = "http://127.0.0.1:8077/oauth/kommo"
    uninstall_hook: str = "http://127.0.0.1:8077/oauth/kommo/uninstalled"
    clients: bool = False  # start with a few invented contacts, to look at and to call
    switches: Switches = field(default_factory=Switches)
    faults: tuple[Fault, ...] = ()
    clock: Clock = field(default_factory=SystemClock)
