"""Secrets of the configuration: given as text, as a credential, a file or an environment variable, shown nowhere."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo, WithJsonSchema
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from itgrix_kommo.config.values import json_type, refusal
from itgrix_kommo.log import register_secret

_LARGEST_FILE: Final = 64 * 1024  # bytes; a long-lived Kommo token has some 1,500
_UNWANTED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
_CREDENTIAL: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_FORMS: Final = 'give text, {"credential": "name"}, {"file": "/path"} or {"env": "NAME"}'
_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "format": "password", "writeOnly": True, "minLength": 1},
        {
            "type": "object",
            "properties": {"credential": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}},
            "required": ["credential"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"file": {"type": "string", "pattern": "^/"}},
            "required": ["file"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"env": {"type": "string", "pattern": "^[A-Z_][A-Z0-9_]*$"}},
            "required": ["env"],
            "additionalProperties": False,
        },
    ]
}


@dataclass(slots=True)
class SecretSources:
    """The validation's context: where secrets are, and were found, as far as that deserves a warning."""

    home: Path | None = None  # the directory of credentials for who was not given them by systemd
    readable_file: str | None = None  # the configuration file, if everybody on the host can read it
    inline: bool = False  # the configuration file itself holds a secret
    readable_secrets: list[str] = field(default_factory=list)  # files of secrets that everybody can read

    def warnings(self) -> list[str]:
        found = [
            f"{name}: everybody on this host can read the secret: run chmod o-rwx {name}"
            for name in dict.fromkeys(self.readable_secrets)
        ]
        if self.inline and self.readable_file:
            name = self.readable_file
            found.append(f"{name}: everybody on this host can read the secrets in it: run chmod 640 {name}")
        return found


def _resolve(value: object, info: ValidationInfo) -> object:
    sources = info.context if isinstance(info.context, SecretSources) else SecretSources()
    match value:
        case SecretStr():  # already resolved: a configuration built or copied in Python
            return value
        case str():
            return _checked(value, _FORMS)
        case {"credential": str(name), **others} if not others:
            return _from_credential(name, sources)
        case {"file": str(path), **others} if not others:
            return _from_file(path, sources)
        case {"env": str(name), **others} if not others:
            return _from_environment(name)
        case {"credential": _, **others} | {"file": _, **others} | {"env": _, **others} if others:
            raise refusal("an object with more than a credential, a file or a variable alone", _FORMS)
        case {"credential": _} | {"file": _} | {"env": _}:
            raise refusal("the credential, file or variable is not named by text", _FORMS)
        case dict():
            raise refusal("an object that is neither a credential nor a file nor a variable", _FORMS)
        case _:
            raise refusal(f"{json_type(value)} where a secret is wanted", _FORMS)


def _checked(text: str, remedy: str) -> str:
    """`text`, if it can be a secret; `remedy` is for an empty one."""
    if not text.strip():
        raise refusal("the secret is empty", remedy)
    if _UNWANTED.search(text):
        raise refusal("the secret has several lines or control characters", "give one line of text")
    return text


def _from_credential(name: str, sources: SecretSources) -> str:
    """What systemd handed us, else what stands in its place: commands that root runs are given nothing."""
    if not _CREDENTIAL.fullmatch(name):
        raise refusal("no name of a credential", "use small letters, digits and _")
    given = os.environ.get("CREDENTIALS_DIRECTORY", "")
    homes = [Path(given)] if given.startswith("/") else []
    if sources.home is not None:
        homes.append(sources.home)
    if not homes:
        raise refusal(f"nobody gives us the credential {name}", "let systemd load it, or give the secret another way")
    paths = [home / name for home in homes]
    return _from_file(str(next((path for path in paths if os.access(path, os.F_OK)), paths[-1])), sources)


def _from_file(name: str, sources: SecretSources) -> str:
    if not name.startswith("/") or not name.isprintable():
        raise refusal("the secret's file is no absolute path", 'give {"file": "/path"}')
    try:
        # Without O_NONBLOCK a named pipe would hold up the start until somebody writes to it.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise refusal(f"{name} is no regular file", "put the secret alone into a file of its own")
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise refusal(f"{name}: {reason}", "create it, readable by the service's user, mode 0600") from None
    if len(content) > _LARGEST_FILE:
        raise refusal(f"{name} is larger than 64 KiB", "put the secret alone into a file of its own")
    if status.st_mode & stat.S_IROTH:
        sources.readable_secrets.append(name)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise refusal(f"{name} is not UTF-8", "put the secret alone into it, as text") from None
    return _checked(text.removesuffix("\n").removesuffix("\r"), f"write it into {name}, alone and in one line")


def _from_environment(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise refusal("no name of an environment variable", "use capital letters, digits and _")
    remedy = "set it in the service's environment"
    try:
        return _checked(os.environ[name], remedy)
    except KeyError:
        raise refusal(f"the environment variable {name} is not set", remedy) from None


def _note_inline(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and isinstance(info.context, SecretSources):
        info.context.inline = True
    return value


def _note_inline_password(value: object, info: ValidationInfo) -> object:
    return _note_inline(value, info) if isinstance(value, str) and "@" in value else value


def _keep(secret: SecretStr) -> SecretStr:
    register_secret(secret.get_secret_value())
    return secret


@dataclass(frozen=True, slots=True)
class _Database:
    """Checks an SQLAlchemy address: a secret for the password that it may hold.

    `drivers` are the accepted schemes, all of them asynchronous: any other would block the event loop.
    """

    drivers: tuple[str, ...]

    def __call__(self, secret: SecretStr) -> SecretStr:
        try:
            url = make_url(secret.get_secret_value())
        except (ArgumentError, ValueError):
            raise refusal("no database address", self._form) from None
        if url.password:
            register_secret(url.password)
        if url.drivername not in self.drivers:
            known = " or ".join(f"{driver}://" for driver in self.drivers)
            raise refusal("a database or driver that can't be used here", f"begin the address with {known}")
        if url.drivername.startswith("sqlite"):
            if url.database in {None, "", ":memory:"}:
                raise refusal(
                    "the address names no file", "give one that outlives the process, as sqlite+aiosqlite:////path does"
                )
        elif not url.database:
            raise refusal("the address names no database", self._form)
        if "@" in (url.host or ""):
            raise refusal("an @ too many in the address", self._form)
        if url.port is not None and not 0 < url.port < 1 << 16:
            raise refusal(f"{url.port} is no port", "give one from 1 to 65535")
        return secret

    @property
    def _form(self) -> str:
        """What stands as a password in it would be masked."""
        return (
            f"give {self.drivers[0]}://user@host/database, with :password behind the user; "
            "% of a password is written %25, and @ %40"
        )


Secret = Annotated[
    SecretStr, AfterValidator(_keep), BeforeValidator(_resolve), BeforeValidator(_note_inline), WithJsonSchema(_SCHEMA)
]
PbxDatabaseUrl = Annotated[
    SecretStr,
    AfterValidator(_Database(("mysql+asyncmy", "mysql+aiomysql", "postgresql+asyncpg", "sqlite+aiosqlite"))),
    BeforeValidator(_resolve),
    BeforeValidator(_note_inline_password),
    WithJsonSchema(_SCHEMA),
]
StorageUrl = Annotated[
    SecretStr,
    AfterValidator(_Database(("sqlite+aiosqlite", "postgresql+asyncpg"))),
    BeforeValidator(_resolve),
    BeforeValidator(_note_inline_password),
    WithJsonSchema(_SCHEMA),
]
SharedStorageUrl = Annotated[
    SecretStr,
    AfterValidator(_Database(("postgresql+asyncpg",))),
    BeforeValidator(_resolve),
    BeforeValidator(_note_inline_password),
    WithJsonSchema(_SCHEMA),
]
