"""The HTTP face: the running daemon, its certificates, and the address at which browsers are to find it."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
import stat
import time
from asyncio import get_running_loop, to_thread
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from itgrix_kommo import running
from itgrix_kommo.config import Config, Listener
from itgrix_kommo.doctor.examination import Check, NotThereError, Patient, Shared
from itgrix_kommo.doctor.findings import Finding, age, fault, ok, skipped, split, warning
from itgrix_kommo.doctor.people import READ
from itgrix_kommo.doctor.storage import url_of, user_of
from itgrix_kommo.errors import ConfigError
from itgrix_kommo.recordings.links import Links, Ticket
from itgrix_kommo.storage.files import LINK_KEY, home
from itgrix_kommo.web.certificate import Issued, issued

ENDS_SOON: Final = 21 * 86_400.0
"""Seconds before its end that a certificate should have been renewed: Let's Encrypt's own tools do so at 30 days."""

ASK_WITHIN: Final = 8.0

READ_WITHIN: Final = 5.0
"""Seconds for two small files: a disk that takes longer hangs."""

_PROBE: Final = "itgrix-kommo check"
"""A recording that no call ever had: only the daemon that signs our links knows that the link itself is good."""

_GENUINE: Final = "no longer kept"

_RENEW: Final = "renew it (certbot renew, or whatever made it); the daemon takes the new files up by itself"


class Told(NamedTuple):
    """/healthz of whatever answers at the local listener."""

    status: int
    body: dict[str, Any]


def checks(patient: Patient) -> list[Check]:
    config = patient.config
    health = patient.share(partial(_health, config))
    found = [
        Check("daemon", "runs", partial(runs, config, health)),
        Check("daemon", "captures", partial(captures, health)),
        Check("daemon", "registers", partial(registers, health)),
        Check("daemon", "keeps", partial(keeps, health)),
    ]
    if config.http.public is not None:
        found.append(Check("daemon", "public port", partial(public_port, config.http.public, health)))
    listeners: dict[str, Listener] = {"http": config.http}
    if config.http.public is not None:
        listeners["http.public"] = config.http.public
    for name, listener in listeners.items():
        if listener.tls_certificate is not None:
            pair = Path(listener.tls_certificate), Path(listener.tls_key or "")
            work = partial(to_thread, certificate, name, *pair, config)
            found.append(
                Check(
                    "web", "certificate", work, within=READ_WITHIN, late=f"see whether the disk of {pair[0]} is alive"
                )
            )
    found.append(Check("web", "public link", partial(public_link, config, health)))
    return found


async def _health(config: Config) -> Told:
    """Raises OSError where nobody listens, ValueError where it is no daemon of ours."""
    url = f"{running.address(config)}/healthz"
    try:
        async with running.session(config) as asking, asking.get(url) as answer:
            body = await answer.json() if answer.content_type == "application/json" else None
            if not isinstance(body, dict) or "capturing_fault" not in body:
                raise ValueError(f"{url} answers {answer.status}, and not as the daemon does")
            return Told(answer.status, body)
    except (aiohttp.ClientConnectorError, TimeoutError) as error:
        raise ConnectionError(f"nobody answers at {running.address(config)}") from error
    except aiohttp.ClientError as error:
        raise ValueError(f"{url} is not answered as the daemon does ({error})") from error


async def runs(config: Config, health: Shared[Told]) -> Finding:
    try:
        await health.get()
    except OSError as error:
        return warning(
            f"it does not run: {error}", "type systemctl start itgrix_amo (journalctl -u itgrix_amo tells why it ended)"
        )
    except ValueError as error:
        return fault(
            f"another program has its port: {error}",
            f"type ss -ltnp 'sport = :{config.http.port}' to see which, and stop it or change http.port",
        )
    return ok(f"it answers at {running.address(config)}")


async def public_port(listener: Listener, health: Shared[Told]) -> Finding:
    """Before the start: whether the daemon will have it."""
    with suppress(NotThereError):
        await _told(health)
        return ok(f"http.public has port {listener.port}")
    try:
        family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
        socket.create_server((listener.host, listener.port), family=family).close()
    except OSError as error:
        why = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
        return fault(
            f"http.public can't have {listener.host}:{listener.port}: {why}",
            f"type ss -ltnp 'sport = :{listener.port}' to see which program has the port, and stop it, or correct "
            "http.public",
        )
    return ok(f"port {listener.port} is free for http.public")


async def captures(health: Shared[Told]) -> Finding:
    body = (await _told(health)).body
    if body["capturing_fault"]:
        return fault(f"it hears no calls: {body['capturing_fault']}", "mend what Asterisk's lines here tell")
    return ok("it hears Asterisk's calls")


async def registers(health: Shared[Told]) -> list[Finding]:
    body = (await _told(health)).body
    stops = _lines(body, "registering_stopped_by")
    return [fault(*split(str(line))) for line in stops] or [ok("nothing stops it from registering calls")]


async def keeps(health: Shared[Told]) -> list[Finding]:
    body = (await _told(health)).body
    troubles = _lines(body, "troubles")
    return [fault(*split(str(line))) for line in troubles] or [ok("what it heard is on the disk")]


def _lines(body: dict[str, Any], key: str) -> Sequence[object]:
    found = body.get(key)
    return found if isinstance(found, list) else ()


async def _told(health: Shared[Told]) -> Told:
    try:
        return await health.needed("the daemon does not run")
    except ValueError as error:
        raise NotThereError("the daemon does not answer") from error


def certificate(name: str, file: Path, key: Path, config: Config) -> list[Finding]:
    """Blocks."""
    who = user_of(config)
    try:
        found = issued(file, key)
        mode = key.stat().st_mode
        hidden = [path for path in (file, key) if not who.may(path, READ)]
    except OSError as error:
        reason = _why_not(error, file, key)
        return [
            fault(
                f"{name}.tls_certificate {file} with {key} can't be used: {reason}",
                f"give a PEM chain and its own key without a password in {name}.tls_certificate and {name}.tls_key",
            )
        ]
    problems = [
        fault(
            f"{path} can't be read by {who.name}, who runs the daemon",
            f"type chgrp {who.name} {path}; chmod 640 {path}",
        )
        for path in hidden
    ]
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        problems.append(fault(f"everybody on this host can read the key {key}", f"type chmod o-rwx {key}"))
    host = urlsplit(config.recordings.public_url or "").hostname
    is_public = name == "http.public" or config.http.public is None
    return [*problems, *judge_certificate(name, file, found, host if is_public else None, time.time())]


def _why_not(error: OSError, file: Path, key: Path) -> str:
    missing = [str(path) for path in (file, key) if not path.exists()]
    if missing:
        return f"{' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not exist"
    if isinstance(error, ssl.SSLError):
        return "the key does not belong to it" if error.reason == "KEY_VALUES_MISMATCH" else "they are no PEM"
    return error.strerror or str(error)


def judge_certificate(name: str, file: Path, found: Issued, host: str | None, now: float) -> list[Finding]:
    """`host` is the one of the public address, None where this certificate is not for it."""
    problems = []
    if found.ends_at <= now:
        problems.append(fault(f"{name}.tls_certificate {file} ended {age(now - found.ends_at)} ago", _RENEW))
    elif found.ends_at - now < ENDS_SOON:
        problems.append(warning(f"{name}.tls_certificate {file} ends in {age(found.ends_at - now)}", _RENEW))
    if found.begins_at > now:
        problems.append(
            fault(
                f"{name}.tls_certificate {file} is not valid yet", "see that this host's clock is right (timedatectl)"
            )
        )
    if host is not None and not found.is_for(host):
        names = ", ".join(found.names) or "no name at all"
        problems.append(
            fault(
                f"{name}.tls_certificate {file} is for {names}, browsers go to {host}",
                "have it made for that name, or correct recordings.public_url",
            )
        )
    return problems or [ok(f"{name}.tls_certificate is good for {age(found.ends_at - now)} more")]


async def public_link(config: Config, health: Shared[Told]) -> list[Finding]:
    """What a browser would meet, as far as that can be seen from this host."""
    url = config.recordings.public_url
    if not config.recordings.enabled or url is None:
        return [skipped("recordings.public_url is not set, so no call gets a link")]
    host = urlsplit(url).hostname or ""
    found: list[Finding] = []
    try:
        addresses = {info[4][0] for info in await get_running_loop().getaddrinfo(host, None)}
    except OSError:
        return [
            fault(
                f"there is no address of {host}, where browsers are sent",
                f"have the name {host} made in DNS (getent hosts {host} tries), or correct recordings.public_url",
            )
        ]
    if note := judge_addresses(host, sorted(map(str, addresses))):
        found.append(note)
    links = await to_thread(_links, config, url)
    if links is None:
        return [*found, skipped("links have no key yet: the daemon makes it at its first start")]
    try:
        await _told(health)
    except NotThereError as error:
        return [*found, skipped(str(error))]
    return [*found, await _followed(links.link(Ticket(_PROBE, None)), url)]


def judge_addresses(host: str, addresses: Sequence[str]) -> Finding | None:
    kinds = [ipaddress.ip_address(one.partition("%")[0]) for one in addresses]
    if all(one.is_loopback for one in kinds):
        words = f"{host} is this host itself ({', '.join(addresses)}): no other computer finds it there"
    elif all(one.is_private for one in kinds):
        words = f"{host} is {', '.join(addresses)}: only computers of the same network find it there"
    else:
        return None
    return warning(words, "if colleagues work elsewhere, give recordings.public_url a name that the internet knows")


def _links(config: Config, url: str) -> Links | None:
    secret = config.recordings.link_secret
    if secret is not None:
        return Links(url, secret.get_secret_value().encode())
    file = home(url_of(config)) / LINK_KEY
    try:
        return Links(url, file.read_bytes())
    except (OSError, ConfigError):
        return None


async def _followed(link: str, url: str) -> Finding:
    """Whether a link of ours is known at the other end as ours."""
    limit = aiohttp.ClientTimeout(total=ASK_WITHIN)
    firewall = (
        "see that the router or proxy passes that port on to this host (http.public), and that the firewall lets it"
    )
    try:
        async with aiohttp.ClientSession(timeout=limit) as asking, asking.get(link, allow_redirects=False) as answer:
            said = (await answer.content.read(2000)).decode(errors="replace")
    except aiohttp.ClientConnectorCertificateError as error:
        return fault(
            f"the certificate at {url} is not believed ({error.certificate_error})",
            "give the whole chain of a certificate that browsers know",
        )
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        return fault(f"{url} can't be spoken to by TLS ({error})", "see which program listens there (ss -ltnp)")
    except TimeoutError:
        return fault(f"{url} does not answer within {ASK_WITHIN:g} s", firewall)
    except (aiohttp.ClientError, OSError) as error:
        return fault(f"{url} can't be reached from here ({error})", firewall)
    if answer.status == 404 and _GENUINE in said:
        return ok(f"{url} leads to this daemon")
    return fault(
        f"{url} leads to something else than this daemon (it answers {answer.status})",
        "let the proxy pass /recordings/ on to http.public, or to http, of this host",
    )
