"""Who asks: from where, over what, and whether nobody stands between. A forwarding header proves nothing by itself."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORWARDING: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "x-cluster-client-ip"}
)
_SECRET_OF_COMPARING: Final = b"only lengths are hidden by it"


@dataclass(frozen=True, slots=True)
class Visitor:
    """`address` is where he asks from, as far as it can be believed, for the log.

    `is_direct_loopback`: a program on this very host, without a proxy between. `is_secure`: what he sends can't be read
    on the way.
    """

    address: str
    is_direct_loopback: bool
    is_secure: bool


def visitor_of(request: web.BaseRequest, trusted: Sequence[Network] = ()) -> Visitor:
    """`trusted` are the proxies whose forwarding headers are believed; all others' headers only take trust away."""
    peer = _peer(request)
    forwarded = any(_is_forwarding(name) for name in request.headers)
    direct = peer is not None and peer.is_loopback and not forwarded
    address, secure = peer, request.secure
    if peer is not None and forwarded and _is_among(peer, trusted):
        chain = [part.strip() for part in ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")]
        hops = [_address(part) for part in chain if part]
        # The last that no trusted proxy added may be anybody's word, and so may all before it.
        address = next((hop for hop in reversed(hops) if hop is None or not _is_among(hop, trusted)), peer)
        protocols = ",".join(request.headers.getall("X-Forwarded-Proto", [])).split(",")
        secure = protocols[-1].strip().lower() == "https"
    elif forwarded and peer is not None and peer.is_loopback:
        secure = False  # a proxy that nobody told us of: how it was spoken to is unknown
    return Visitor(str(address) if address else "unknown", direct, secure or direct)


def bearer_of(request: web.BaseRequest) -> str | None:
    """The token of `Authorization: Bearer …`; None where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def is_same(given: str, known: str) -> bool:
    """Compare secrets in a time that tells nothing of either, not even of its length."""
    one, other = (
        hmac.digest(_SECRET_OF_COMPARING, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        for text in (given, known)
    )
    return hmac.compare_digest(one, other)


def _is_forwarding(name: str) -> bool:
    lower = name.lower()
    return lower in _FORWARDING or lower.startswith("x-forwarded")


def _peer(request: web.BaseRequest) -> Address | None:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return _address(str(peer[0])) if isinstance(peer, tuple) else None


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_among(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
