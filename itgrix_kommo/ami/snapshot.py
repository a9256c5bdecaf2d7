"""What exists in Asterisk at a moment, from the lists it answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from itgrix_kommo.ami.decode import shown_bridge, shown_channel
from itgrix_kommo.ami.headers import integer, text_of, value_of
from itgrix_kommo.calls.events import Bridge, LiveChannel

if TYPE_CHECKING:
    from collections.abc import Iterable

CHANNEL_LISTS: Final = ("CoreShowChannels", "Status")
"""The first needs the right `system` or `reporting`; the second tells the same and is content with `call`."""


class EndpointList(NamedTuple):
    """An action that lists devices, what their channels' names begin with, and the header that names one."""

    action: str
    technology: str
    header: str


ENDPOINT_LISTS: Final = (
    EndpointList("PJSIPShowEndpoints", "PJSIP", "ObjectName"),
    EndpointList("SIPpeers", "SIP", "ObjectName"),
    EndpointList("IAXpeers", "IAX2", "ObjectName"),
    EndpointList("DAHDIShowChannels", "DAHDI", "DAHDIChannel"),
)
"""Each is unknown to an Asterisk without that channel driver."""


def live_channels(items: Iterable[bytes], at: float) -> tuple[LiveChannel, ...]:
    """The channels of one of CHANNEL_LISTS, answered `at` Unix seconds."""
    return tuple(_live_channel(frame, at) for frame in items)


def bridges(items: Iterable[bytes]) -> tuple[Bridge, ...]:
    """The bridges of a BridgeList."""
    return tuple(map(shown_bridge, items))


def endpoints(items: Iterable[bytes], listed: EndpointList) -> set[str]:
    """Device names as channel names spell them: ``PJSIP/101``."""
    names = (value_of(text_of(frame), listed.header) for frame in items)
    return {f"{listed.technology}/{name}" for name in names if name}


def _live_channel(frame: bytes, at: float) -> LiveChannel:
    text = text_of(frame)
    return LiveChannel(
        shown_channel(frame),
        value_of(text, "Application"),
        value_of(text, "ApplicationData") or value_of(text, "Data"),
        value_of(text, "BridgeId") or value_of(text, "BridgeID"),
        at - _age(value_of(text, "Duration") or value_of(text, "Seconds")),
    )


def _age(duration: str) -> int:
    """Seconds of ``01:02:03`` or ``3723``."""
    seconds = 0
    for part in duration.split(":"):
        seconds = seconds * 60 + integer(part)
    return seconds
