"""The command `login`: the first OAuth grant, from the terminal."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import typer

from itgrix_kommo import config
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, failed, finish, opened, out
from itgrix_kommo.configured import oauth_tokens
from itgrix_kommo.errors import ConfigError
from itgrix_kommo.kommo.consent import consent_url, is_of_account, new_state
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.oauth import Grant, integration_of
from itgrix_kommo.kommo.transport import Transport
from itgrix_kommo.storage.tokens import Tokens


def login(path: ConfigOption = CONFIG_PATH) -> None:
    """Let Kommo grant access by OAuth: once, before the first start without a long-lived token."""
    settings = config.load(path)
    integration = integration_of(settings)
    if integration is None:
        raise ConfigError("kommo.integration: not given: add the integration's keys, or use a kommo.access_token")
    before = finish(_stored_grant(settings))
    state = new_state(integration, time.time())
    out.print("Open this address in a browser, and agree:")
    out.print(consent_url(settings.kommo.base_url, integration, state), markup=False, soft_wrap=True, highlight=False)
    out.print("Where the daemon runs and is reached, the browser then says that access is granted: press Enter.")
    out.print("Otherwise paste the address that the browser was sent to, within 20 minutes.")
    address = typer.prompt("Address", default="", show_default=False).strip()
    if not _is_new(finish(_stored_grant(settings)), before):
        if not address:
            raise failed("no access was granted meanwhile: begin again, and paste the address of the page you came to")
        finish(_grant(settings, _code_in(address, state, settings.kommo.base_url)))
    out.print("[green]✓[/] access is granted; the daemon renews it by itself")


def _code_in(address: str, state: str, base_url: str) -> str:
    answer = parse_qs(urlsplit(address).query)
    if "error" in answer:
        raise failed("in Kommo it was chosen not to allow it: nothing has changed")
    if answer.get("state") != [state] or "code" not in answer:
        raise failed("that address holds no code of this login: begin again, and paste the whole of it")
    if not is_of_account(answer.get("referer", [""])[0], base_url):
        raise failed("that grant is of another account than kommo.base_url: log in to that account in Kommo first")
    return answer["code"][0]


def _is_new(grant: Grant | None, before: Grant | None) -> bool:
    """Whether somebody granted it meanwhile; what was only renewed has a `previous`."""
    return grant is not None and grant != before and not grant.previous


async def _grant(settings: config.Config, code: str) -> None:
    async with (
        opened(settings) as database,
        Transport(settings.kommo.base_url, None, Limiter(settings.kommo.requests_per_second)) as bare,
    ):
        await oauth_tokens(settings, database, bare).grant_by(code)


async def _stored_grant(settings: config.Config) -> Grant | None:
    integration = settings.kommo.integration
    if integration is None:
        return None
    async with opened(settings) as database:
        return await Tokens(database, integration.client_id).load()
