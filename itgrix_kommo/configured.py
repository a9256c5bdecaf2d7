"""What the configuration makes of the rooms: their settings, rules and connections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from itgrix_kommo.ami.settings import AmiSettings
from itgrix_kommo.calls.call import Call
from itgrix_kommo.calls.numbers import Employee, NumberPlan
from itgrix_kommo.config import Config
from itgrix_kommo.errors import ConfigError
from itgrix_kommo.kommo.checks import Report, Wanted
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.oauth import OAuthTokens, integration_of
from itgrix_kommo.kommo.transport import LongLivedToken, TokenSource, Transport
from itgrix_kommo.pipeline.rules import Rules, unlisted
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.shared import SharedDatabase
from itgrix_kommo.storage.shared_tokens import SharedTokens
from itgrix_kommo.storage.tokens import Tokens


def ami_settings(config: Config) -> AmiSettings:
    ami = config.ami
    return AmiSettings(ami.host, ami.port, ami.username, ami.secret.get_secret_value(), tls=ami.tls)


def number_plan(config: Config) -> NumberPlan:
    return NumberPlan(
        employees=[Employee(one.user_id, one.extension, tuple(one.numbers)) for one in config.employees],
        trunks=config.numbers.trunks,
        peer_trunks=config.numbers.peer_trunks,
        internal_max_length=config.numbers.internal_max_length,
        region=config.numbers.region,
        outside_prefixes=config.numbers.outside_prefixes,
        replace_client=_replacing(config, {"client", "both"}),
        replace_employee=_replacing(config, {"employee", "both"}),
    )


def _replacing(config: Config, sides: set[str]) -> Callable[[str], str]:
    """The replacements of these sides, one after another."""
    rules = [rule for rule in config.numbers.replacements if rule.applies_to in sides]

    def replace(number: str) -> str:
        for rule in rules:
            number = rule.apply(number)
        return number

    return replace if rules else str


def wanted(config: Config) -> Wanted:
    """What the account must have for this configuration."""
    business = config.business
    users = {one.user_id for one in config.employees}
    if business.default_user_id is not None:
        users.add(business.default_user_id)
    return Wanted(pipeline_id=business.pipeline_id, status_id=business.status_id, user_ids=frozenset(users))


def rules_of(config: Config, report: Report) -> Rules:
    """The configuration with what the account says; what that does not tell, such as the phone field's id, is 0."""
    business, numbers = config.business, config.numbers
    return Rules(
        business=business,
        language=config.language,
        phone_field_id=report.phone_field_id or 0,
        pipeline_id=report.pipeline_id or business.pipeline_id or 0,
        status_id=report.status_id or business.status_id or 0,
        stages=report.stages,
        unsorted_pipelines=report.unsorted_pipelines,
        users={user.id: user.name for user in report.users.values()},
        phones={one.user_id: (one.extension, *one.numbers) for one in config.employees},
        timezone=config.node.timezone,
        node=config.node.name,
        is_one_of_several=config.storage.shared_url is not None,
        blacklist=numbers.blacklist,
        whitelist=numbers.whitelist,
        peer_trunks=numbers.peer_trunks,
    )


def unlisted_by(config: Config, call: Call, phone: str) -> str:
    """Why the lists keep this call out of Kommo; empty where they don't."""
    numbers = config.numbers
    return unlisted(
        call,
        phone,
        blacklist=numbers.blacklist,
        whitelist=numbers.whitelist,
        peer_trunks=numbers.peer_trunks,
    )


class Connection(NamedTuple):
    """The way to the account; `grants` is None where a long-lived token opens it."""

    transport: Transport
    grants: OAuthTokens | None


async def connect(
    config: Config,
    database: Database,
    limiter: Limiter,
    stack: contextlib.AsyncExitStack,
    shared: SharedDatabase | None = None,
) -> Connection:
    """The way to the account, by the long-lived token, else by the OAuth grant; closed with `stack`."""
    kommo, node = config.kommo, config.node.name if shared is not None else ""
    tokens: TokenSource
    grants: OAuthTokens | None = None
    if kommo.access_token is not None:
        tokens = LongLivedToken(kommo.access_token.get_secret_value())
    else:
        bare = Transport(kommo.base_url, None, limiter, timeout_s=kommo.timeout_s, node=node)
        tokens = grants = oauth_tokens(config, database, await stack.enter_async_context(bare), shared)
    transport = Transport(kommo.base_url, tokens, limiter, timeout_s=kommo.timeout_s, node=node)
    return Connection(await stack.enter_async_context(transport), grants)


def oauth_tokens(
    config: Config, database: Database, bare: Transport, shared: SharedDatabase | None = None
) -> OAuthTokens:
    """The OAuth grant of the configured integration. Raises ConfigError where there is none."""
    integration = integration_of(config)
    if integration is None:
        raise ConfigError("kommo.integration: not given: add the integration's keys, or a kommo.access_token")
    own = Tokens(database, integration.client_id)
    store = own if shared is None else SharedTokens(shared, own, integration.client_id)
    return OAuthTokens(integration, store, bare)
