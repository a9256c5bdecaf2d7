"""REGISTER as a phone sends it.

Asterisk as a phone delays each REGISTER by a random while of up to ten seconds, even one that is asked for; tests
switch phones on and off at once, so the lab speaks this one request itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import socket

__all__ = ["PHONE_SECRET", "RegistrationRefusedError", "register"]

PHONE_SECRET = "phone-secret"
RESEND_AFTER = 0.5  # UDP: seconds until a request without an answer is sent again
TRIES = 10


class RegistrationRefusedError(Exception):
    """The PBX did not take the REGISTER."""


async def register(extension: int, *, pbx_port: int, contact_port: int, expires: int) -> None:
    """Tells the PBX where the phone is, for that many seconds; 0 takes it off. Raises RegistrationRefusedError."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(0)
        wire.bind(("127.0.0.1", 0))
        await loop.sock_connect(wire, ("127.0.0.1", pbx_port))
        call_id, own_port = secrets.token_hex(8), wire.getsockname()[1]
        authorization = ""
        for sequence in (1, 2):
            request = (
                f"REGISTER sip:127.0.0.1:{pbx_port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP 127.0.0.1:{own_port};branch=z9hG4bK{secrets.token_hex(8)}\r\n"
                f"From: <sip:{extension}@127.0.0.1>;tag={call_id}\r\nTo: <sip:{extension}@127.0.0.1>\r\n"
                f"Call-ID: {call_id}\r\nCSeq: {sequence} REGISTER\r\nMax-Forwards: 70\r\nExpires: {expires}\r\n"
                f"Contact: <sip:{extension}@127.0.0.1:{contact_port}>\r\n{authorization}Content-Length: 0\r\n\r\n"
            )
            answer = await exchange(wire, request.encode(), f"CSeq: {sequence} ")
            status = answer.split("\r\n", 1)[0]
            if " 200 " in status:
                return
            challenge = dict(re.findall(r'(\w+)="?([^",\r\n]+)', answer.partition("WWW-Authenticate: Digest ")[2]))
            if " 401 " not in status or "nonce" not in challenge:
                break
            authorization = digest(extension, f"sip:127.0.0.1:{pbx_port}", challenge)
        raise RegistrationRefusedError(
            f"the PBX at port {pbx_port} answered the REGISTER of {extension} with {status!r}"
        )


async def exchange(wire: socket.socket, request: bytes, wanted: str) -> str:
    """The final answer to a request. Raises RegistrationRefusedError when there is none."""
    loop = asyncio.get_running_loop()
    for _ in range(TRIES):
        try:
            await loop.sock_sendall(wire, request)
            while True:
                answer = (await asyncio.wait_for(loop.sock_recv(wire, 65535), RESEND_AFTER)).decode()
                if wanted in answer and not answer.startswith("SIP/2.0 1"):
                    return answer
        except (TimeoutError, ConnectionRefusedError):
            continue
    raise RegistrationRefusedError(f"no answer to a REGISTER within {TRIES * RESEND_AFTER:.0f} s")


def digest(extension: int, uri: str, challenge: dict[str, str]) -> str:
    """The Authorization header that answers a challenge (RFC 2617, with qop=auth if it is asked for)."""
    realm, nonce = challenge["realm"], challenge["nonce"]
    quality = ("00000001", secrets.token_hex(8), "auth") if "qop" in challenge else ()
    own, wanted = md5(f"{extension}:{realm}:{PHONE_SECRET}"), md5(f"REGISTER:{uri}")
    response = md5(":".join((own, nonce, *quality, wanted)))
    header = (
        f'Authorization: Digest username="{extension}", realm="{realm}", nonce="{nonce}", uri="{uri}",'
        f' response="{response}", algorithm=MD5'
    )
    if quality:
        header += f', qop=auth, nc={quality[0]}, cnonce="{quality[1]}"'
    if "opaque" in challenge:
        header += f', opaque="{challenge["opaque"]}"'
    return header + "\r\n"


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
