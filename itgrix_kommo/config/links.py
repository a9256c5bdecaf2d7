"""Settings of what the daemon is connected to: Asterisk, Kommo, those who call it over HTTP, files, databases,
the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from itgrix_kommo.config.secrets import PbxDatabaseUrl, Secret, SharedStorageUrl, StorageUrl
from itgrix_kommo.config.values import (
    AbsolutePath,
    AccountUrl,
    Between,
    Column,
    ColumnAlias,
    Count,
    Flag,
    Host,
    Name,
    Network,
    Port,
    PublicUrl,
    Seconds,
    SecureUrl,
    Table,
    Text,
    TimeZone,
    refusal,
)

_PATH_SAFE: Final = re.compile(r"[A-Za-z0-9_.~\-]+", re.ASCII)


class Section(BaseModel):
    """One object of the configuration: immutable, without unknown keys, and mute about wrong input."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)


class Ami(Section):
    host: Host = Field(
        default="127.0.0.1", description="Host of Asterisk's manager interface; the daemon usually runs beside it."
    )
    port: Port = Field(default=5038, description="TCP port of the manager interface; 5038 is Asterisk's own.")
    username: Text = Field(description="Name of the manager.conf user made for the connector.")
    secret: Secret = Field(description="Secret of that manager.conf user.")
    tls: Flag = Field(
        default=False, description="Whether to speak TLS to Asterisk; off because the link is normally loopback."
    )


class Integration(Section):
    client_id: Text = Field(description="Integration ID shown in Kommo's integration settings.")
    client_secret: Secret = Field(
        description="Secret key of the integration; it also verifies the widget's signatures."
    )
    redirect_uri: SecureUrl = Field(description="Redirect address exactly as entered in the integration's settings.")


class Kommo(Section):
    base_url: AccountUrl = Field(description="Address of your Kommo account, such as https://acme.kommo.com.")
    access_token: Secret | None = Field(
        default=None,
        description="Long-lived token of the integration; null where `integration` gets its tokens by OAuth.",
    )
    integration: Integration | None = Field(
        default=None,
        validate_default=True,
        description="Keys of the OAuth integration; beside a token they only verify the widget's signatures.",
    )
    requests_per_second: Annotated[int, Between("rate of 7 requests/s at most", 1, 7)] = Field(
        default=6,
        description="Requests per second for the whole account; Kommo blocks above 7, so one is left to others.",
    )
    timeout_s: Seconds = Field(
        default=10, description="Seconds to wait for one answer of Kommo; slow searches take several."
    )
    webhook_secret: Secret | None = Field(
        default=None,
        description="Last part of the webhook's address /webhooks/kommo/…; null means webhooks are not accepted.",
    )

    @field_validator("integration")
    @classmethod
    def _some_credentials(cls, integration: Integration | None, info: ValidationInfo) -> Integration | None:
        if integration is None and "access_token" in info.data and info.data["access_token"] is None:
            raise refusal("neither access_token nor integration is given", "give kommo.access_token or this object")
        return integration

    @field_validator("webhook_secret")
    @classmethod
    def _fits_an_address(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not _PATH_SAFE.fullmatch(secret.get_secret_value()):
            raise refusal("it can't stand in a web address", "use letters, digits, - and _ only")
        return secret


class Node(Section):
    name: Name = Field(
        default="pbx1",
        description="Name of this PBX, unique among those that share one Kommo account. Once it was changed, type "
        "itgrix-kommo nodes rename with the former one.",
    )
    timezone: TimeZone | None = Field(
        default=None, description="IANA time zone of the PBX's clock, such as Europe/Madrid; null takes the host's own."
    )


class Listener(Section):
    host: Host = Field(default="0.0.0.0", description="Address to listen on; 0.0.0.0 is every address of the host.")  # noqa: S104 - the public one, on purpose
    port: Port = Field(description="TCP port to listen on.")
    tls_certificate: AbsolutePath | None = Field(
        default=None, description="File with the certificate chain (PEM); null means plain HTTP."
    )
    tls_key: AbsolutePath | None = Field(
        default=None, validate_default=True, description="File with the certificate's private key (PEM)."
    )

    @field_validator("tls_key")
    @classmethod
    def _pair(cls, key: str | None, info: ValidationInfo) -> str | None:
        if "tls_certificate" in info.data and (key is None) != (info.data["tls_certificate"] is None):
            raise refusal("tls_certificate and tls_key belong together", "give both, or neither")
        return key


class Admin(Section):
    login: Text = Field(default="admin", description="Login of the administrator for /status, /metrics and the pages.")
    password: Secret | None = Field(
        default=None, description="Password of the administrator; null closes what he may see."
    )


class Tokens(Section):
    originate: Secret | None = Field(
        default=None, description="Bearer token for /originate; null leaves Kommo's widget alone."
    )
    autodistribution: Secret | None = Field(
        default=None, description="Bearer token for /autodistribution; null leaves direct loopback connections alone."
    )


class Http(Listener):
    host: Host = Field(
        default="127.0.0.1", description="Address to listen on; loopback, so that nothing is open by default."
    )
    port: Port = Field(default=8077, description="TCP port to listen on; 8077 is where existing dialplans expect it.")
    admin: Admin = Field(default=Admin(), description="The administrator's login.")
    tokens: Tokens = Field(default=Tokens(), description="Tokens of programs that call the daemon.")
    public: Listener | None = Field(
        default=None,
        description="A second listener for originate, recordings, webhooks and OAuth alone; null: one serves all.",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="Addresses or networks of reverse proxies whose X-Forwarded-For is believed."
    )

    @field_validator("public")
    @classmethod
    def _another_port(cls, public: Listener | None, info: ValidationInfo) -> Listener | None:
        if public is not None and public.port == info.data.get("port"):
            raise refusal("the same port as http.port", "give the public listener a port of its own")
        return public


class Recordings(Section):
    enabled: Flag = Field(default=True, description="Whether calls get a link to their recording.")
    directories: tuple[AbsolutePath, ...] = Field(
        default=("/var/spool/asterisk/monitor",),
        description="Directories searched for recordings; nothing outside is served.",
    )
    public_url: PublicUrl | None = Field(
        default=None,
        description="Address at which browsers reach the daemon, such as https://pbx.example.com:8077; null: no links.",
    )
    path_map: Mapping[AbsolutePath, AbsolutePath] = Field(
        default={}, description="Beginnings of paths as Asterisk names them, and where they are on this host."
    )
    format: Literal["mp3"] = Field(
        default="mp3", description="Format the recordings are converted to; every browser plays mp3."
    )
    bitrate: Literal[
        "8k", "16k", "24k", "32k", "40k", "48k", "56k", "64k", "80k", "96k", "112k", "128k", "144k", "160k"
    ] = Field(
        default="32k", description="Bit rate of the mp3, from 8k to 160k; 32k is plenty for the telephone's 8 kHz."
    )
    conversion_timeout_s: Seconds = Field(
        default=10,
        description="Seconds until the original file is served instead, while the conversion may finish later.",
    )
    link_secret: Secret | None = Field(
        default=None, description="Key that signs the links; null makes one at first start, kept in the storage."
    )
    link_days: Count | None = Field(
        default=None, description="Days a link works; null for ever, as the CRM keeps it for ever."
    )
    cache_gb: Annotated[float, Between("size in GB", 0, 100_000)] = Field(
        default=5, description="Gigabytes of converted recordings kept on this host."
    )
    cache_days: Count = Field(default=90, description="Days a converted recording is kept after it was last heard.")


class PbxDatabase(Section):
    url: PbxDatabaseUrl = Field(
        description="Address of the PBX's CDR/CEL database, such as mysql+asyncmy://user:password@127.0.0.1/asteriskcdrdb."
    )
    cel_table: Table = Field(default="cel", description="Table with the channel events; FreePBX calls it cel.")
    cdr_table: Table = Field(default="cdr", description="Table with the call records; FreePBX calls it cdr.")
    column_name_aliases: Mapping[ColumnAlias, Column] = Field(
        default={"cel_extra": "extra"},
        description="Columns named otherwise in your tables: FreePBX's cel has `extra` where Asterisk says eventextra.",
    )


class Storage(Section):
    url: StorageUrl = Field(
        default=SecretStr("sqlite+aiosqlite:////var/lib/itgrix_amo/itgrix.db"),
        description="Database of this node's journal and queue; a local SQLite file needs no server.",
    )
    shared_url: SharedStorageUrl | None = Field(
        default=None, description="PostgreSQL that several nodes of one Kommo account share; null for a single node."
    )
    retention_days: Count = Field(
        default=90, description="Days that finished calls stay in the storage; a quarter to look back."
    )


class Logging(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least important line that is logged: debug (each event), info (each decision), warning or error.",
    )
    format: Literal["json", "console"] = Field(
        default="json", description="json is one object a line for machines, console is text for people."
    )
