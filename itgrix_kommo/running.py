"""The daemon that runs on this host, asked over its own HTTP face."""

from __future__ import annotations

import base64
from typing import Any, Final

import aiohttp

from itgrix_kommo.config import Config

ASK_WITHIN: Final = 3.0
"""Seconds for the daemon to answer a command."""


def address(config: Config) -> str:
    """Where the local listener is reached from this host."""
    http = config.http
    host = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104 (compared, not bound)
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if http.tls_certificate else 'http'}://{host}:{http.port}"


def session(config: Config) -> aiohttp.ClientSession:
    """Logged in as the administrator, where there is one."""
    admin = config.http.admin
    headers = {}
    if admin.password is not None:
        login = f"{admin.login}:{admin.password.get_secret_value()}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    # The certificate is for the name that browsers use, not for this host's own address.
    return aiohttp.ClientSession(
        headers=headers, timeout=aiohttp.ClientTimeout(total=ASK_WITHIN), connector=aiohttp.TCPConnector(ssl=False)
    )


async def status(config: Config) -> tuple[dict[str, Any], str]:
    """What the running daemon's /status tells; else why there is nothing."""
    if config.http.admin.password is None:
        return {}, "http.admin.password is not set, so the daemon's /status is closed"
    url = f"{address(config)}/status"
    try:
        async with session(config) as asking, asking.get(url) as answer:
            if answer.status != 200:
                return {}, f"{url} answered {answer.status}: does the daemon run with this configuration?"
            return dict(await answer.json()), ""
    except (aiohttp.ClientError, TimeoutError, ValueError, TypeError) as error:
        return {}, f"{url} can't be asked ({error or 'no answer in time'}): is the daemon running?"
