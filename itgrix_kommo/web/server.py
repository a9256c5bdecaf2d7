"""The listeners: where the daemon is spoken to over HTTP."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from itgrix_kommo.errors import ConfigError


@asynccontextmanager
async def serving(
    routes: Iterable[web.RouteDef], host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve `routes` until left; gives the address under which they are served. Port 0 takes a free one.

    Raises ConfigError where the address can't be had.
    """
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise ConfigError(
                f"http: {host}:{port} can't be listened on: {error.strerror}: choose another http.port, "
                "or stop what uses it (ss -ltnp tells)"
            ) from error
        bound = runner.addresses[0]
        yield f"{'https' if tls else 'http'}://{bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """For a listener with a certificate; None where it has none. Raises ConfigError where the files don't serve."""
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"http.tls_certificate: {certificate} with key {key} can't be used: {error}: give a PEM certificate chain "
            "and its key, readable by the daemon's user"
        ) from error
    return context
