"""What the link is told, and what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class AmiSettings:
    """Where Asterisk is and who we are there.

    `tls` True checks the certificate against the machine's own authorities; a context of one's own may be given.
    """

    host: str
    port: int
    username: str
    secret: str = field(repr=False)
    tls: bool | ssl.SSLContext = False


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, where nothing else is said."""

    connect_within: float = 10.0
    """For the connection and Asterisk's greeting."""
    answer_within: float = 10.0
    """For an action. Asterisk itself sleeps a second before it refuses a login."""
    ping_after: float = 10.0
    """Of silence; from then on a ping goes out every half of it."""
    silence_limit: float = 35.0
    """Of silence, after which Asterisk is taken for gone: five pings, so that a reload that blocks it costs no link."""
    stall_limit: float = 30.0
    """For which Asterisk is kept waiting while nobody takes the events; it drops such clients on its own as well."""
    boot_grace: float = 1.0
    """For FullyBooted after a login. It never comes to a user without the class `system`, late from a booting PBX."""
    look_every: float = 600.0
    """Between two looks at the channels that exist: they end what a lost hangup left behind."""
    retry_first: float = 0.5
    retry_ceiling: float = 30.0
    refused_first: float = 60.0
    """After a refused login: only a person can cure it, and each attempt fills Asterisk's security log."""
    refused_ceiling: float = 900.0
    high_water: int = 20_000
    """Events not yet taken, at which reading stops: some 20 MB, two seconds of a very busy PBX."""

    def pause(self, failures: int, *, refused: bool, dice: float) -> float:
        """Seconds before the next attempt after that many failures in a row (1 …); `dice` is from 0 to 1.

        Spread from half to one and a half, lest everything that lost the same PBX comes back at the same moment.
        """
        first, ceiling = (
            (self.refused_first, self.refused_ceiling) if refused else (self.retry_first, self.retry_ceiling)
        )
        # 2**1023 is the last that a float holds; the ceiling is reached long before.
        return min(first * 2.0 ** min(failures - 1, 1000), ceiling) * (0.5 + dice)


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """The link at a moment, for /status, /healthz and the doctor. Times are Unix seconds."""

    connected: bool = False
    """Logged in: calls are captured."""
    since: float | None = None
    """When `connected` became what it is."""
    error: str = ""
    """Why there is no link, in words; empty while there is one."""
    login_refused: bool = False
    """A person must act."""
    limits: tuple[str, ...] = ()
    """What Asterisk refuses this user though the link stands, in words."""
    filtered: bool = False
    """Asterisk sends only what is wanted."""
    booted: bool = False
    """Asterisk said FullyBooted, as it does to whoever may read the class `system`."""
    ami_version: str = ""
    asterisk_version: str = ""
    connections: int = 0
    """Logins that succeeded."""
    gaps: int = 0
    """Times that events were missed."""
    truncated: int = 0
    """Connections that broke off within an event."""
    messages: int = 0
    """All that Asterisk sent."""
    events: int = 0
    """Those of them that were handed on."""
    waiting: int = 0
    """Handed on and not yet taken."""
