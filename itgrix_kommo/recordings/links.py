"""Links to recordings: signed, so that none can be guessed, and the same ones for the life of a recording.

A link holds the recording's id and its expiry, and a MAC over both. Who has the link may listen: the card's player
sends no credentials. Another key revokes every link.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from typing import Final, NamedTuple

from itgrix_kommo.errors import ConfigError

SHORTEST_KEY: Final = 16
"""Bytes. A shorter key could be found by trying, from a single link."""

PATH: Final = "/recordings/{signed:[A-Za-z0-9_-]{1,1200}}.mp3"

_PURPOSE: Final = b"itgrix-kommo link to a recording, version 1"
_MAC: Final = 16  # bytes: 128 bits can't be guessed over a network
_EXPIRY: Final = struct.Struct(">Q")  # Unix seconds; 0 is never


class Ticket(NamedTuple):
    """What a genuine link says. `expires_at` is in Unix seconds; None is never."""

    recording_id: str
    expires_at: int | None

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


class Links:
    """`public_url` is where browsers reach the daemon. The key is secret and shows nowhere."""

    def __init__(self, public_url: str, key: bytes) -> None:
        if len(key) < SHORTEST_KEY:
            raise ConfigError(
                f"recordings.link_secret has {len(key)} bytes, which can be found by trying: "
                f"give at least {SHORTEST_KEY}, or null to have one made"
            )
        self._public_url = public_url.rstrip("/")
        # The same secret, used elsewhere, would never sign a link.
        self._key = hmac.digest(key, _PURPOSE, "sha256")

    def link(self, ticket: Ticket) -> str:
        return f"{self._public_url}/recordings/{self.signed(ticket)}.mp3"

    def signed(self, ticket: Ticket) -> str:
        message = _EXPIRY.pack(ticket.expires_at or 0) + ticket.recording_id.encode()
        return base64.urlsafe_b64encode(self._mac(message) + message).rstrip(b"=").decode()

    def read(self, signed: str) -> Ticket | None:
        """What a link's last part says, expired or not; None if it was not signed by this key."""
        try:
            decoded = base64.urlsafe_b64decode(signed + "=" * (-len(signed) % 4))
        except (binascii.Error, ValueError):
            return None
        mac, message = decoded[:_MAC], decoded[_MAC:]
        if not hmac.compare_digest(mac, self._mac(message)):
            return None
        (expires_at,) = _EXPIRY.unpack_from(message)
        ticket = Ticket(message[_EXPIRY.size :].decode(), expires_at or None)
        # Base 64 has several spellings of the same bytes, and its decoder skips what it does not know.
        return ticket if hmac.compare_digest(self.signed(ticket).encode(), signed.encode()) else None

    def _mac(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, hashlib.sha256)[:_MAC]
