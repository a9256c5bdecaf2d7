"""Hosts of several PBXs, each with two cables of its own: one to the database that all share, one to Kommo.

Where they may be made, hosts are network namespaces, and so is the street between them, in which the database and Kommo
are. None has a name or an address in the machine's own network: they end with the files and processes that hold them,
however a test ends, and no two runs can meet. Elsewhere hosts are processes of this one, and each cable is a relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from aiohttp.test_utils import unused_port

T = TypeVar("T")
Address = tuple[str, int]

HTTP_PORT = 8077
DATABASE, KOMMO = ("10.77.0.1", 5432), ("10.78.0.1", 443)
"""Where they are in the street, for every host."""

_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET; the os module knows it, and the calls it is for, from Python 3.12 on."""

_libc = ctypes.CDLL(None, use_errno=True)


class Cable(Protocol):
    """Once it is pulled nothing arrives at the other end, and nobody is told."""

    async def pull(self) -> None: ...
    async def plug(self) -> None: ...


class Namespace:
    """The network of a host, empty at first. It lasts as long as this is open, or a process is in it."""

    def __init__(self) -> None:
        self._file = _in_a_thread(_left)
        self.path = f"/proc/{os.getpid()}/fd/{self._file}"

    @property
    def within(self) -> list[str]:
        """What a command begins with that is to run in here."""
        return ["nsenter", f"--net={self.path}", "--"]

    def socket(self, *_: object) -> socket.socket:
        """A TCP socket of this host, for whoever uses it."""

        def made() -> socket.socket:
            enter(self.path)
            return socket.socket()

        return _in_a_thread(made)

    def ip(self, *lines: str) -> None:
        command = [*self.within, "ip", "-batch", "-"]
        subprocess.run(command, input="\n".join(lines), text=True, check=True, capture_output=True)

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Host:
    """`database` and `kommo` are where this host finds them. `namespace` is None where it is no host of its own."""

    port: int
    database: Address
    kommo: str
    to_postgresql: Cable
    to_kommo: Cable
    namespace: Namespace | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """`database` is where it is to listen, started by a command that begins with `within`; Kommo listens at `kommo`.

    With `tls`: without it a daemon tells its token nobody but this machine.
    """

    database: Address
    within: Sequence[str]
    kommo: socket.socket
    tls: ssl.SSLContext | None
    hosts: Sequence[Host]


class Certificate:
    """Of Kommo in the street; trusted by whoever has it in `SSL_CERT_FILE`."""

    def __init__(self, directory: Path) -> None:
        self.file, self._key = directory / "kommo.pem", directory / "kommo.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=acme.kommo.com", "-addext", f"subjectAltName=IP:{KOMMO[0]}",
             "-keyout", str(self._key), "-out", str(self.file)],
            check=True, capture_output=True,
        )  # fmt: skip

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self._key)
        return context


@asynccontextmanager
async def a_network(count: int, certificate: Certificate) -> AsyncIterator[Network]:
    """With so many hosts."""
    if no_namespaces():
        async with _relayed(count) as network:
            yield network
    else:
        with ExitStack() as life:
            yield await asyncio.to_thread(_street, life, count, certificate)


@functools.cache
def no_namespaces() -> str:
    """Why none can be made here; empty where they can."""
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is missing"
    try:
        with contextlib.closing(Namespace()) as street, contextlib.closing(Namespace()) as host:
            _lay(street, host, "try", "10.77.1", DATABASE)
    except OSError as error:
        return str(error.strerror)
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    return ""


def enter(path: str) -> None:
    """Take this thread into a namespace, as a command would enter that begins with `within`."""
    file = os.open(path, os.O_RDONLY)
    try:
        _must(_libc.setns(file, _NEW_NETWORK))
    finally:
        os.close(file)


def _left() -> int:
    """A file that holds the new namespace of this thread."""
    _must(_libc.unshare(_NEW_NETWORK))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _must(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _in_a_thread(work: Callable[[], T]) -> T:
    """Of its own: only who does the work is taken elsewhere."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


# In namespaces


@dataclass(frozen=True, slots=True)
class _Veth:
    """Its far end goes down: the host still sends, and nothing of it arrives."""

    street: Namespace
    name: str

    async def pull(self) -> None:
        await asyncio.to_thread(self.street.ip, f"link set {self.name} down")

    async def plug(self) -> None:
        await asyncio.to_thread(self.street.ip, f"link set {self.name} up")


def _street(life: ExitStack, count: int, certificate: Certificate) -> Network:
    street = life.enter_context(contextlib.closing(Namespace()))
    places = (f"address add {address}/32 dev lo" for address, _ in (DATABASE, KOMMO))
    street.ip("link set lo up", *places)
    hosts = []
    for number in range(1, count + 1):
        namespace = life.enter_context(contextlib.closing(Namespace()))
        namespace.ip("link set lo up")
        to_postgresql = _lay(street, namespace, f"database{number}", f"10.77.{number}", DATABASE)
        to_kommo = _lay(street, namespace, f"kommo{number}", f"10.78.{number}", KOMMO)
        hosts.append(Host(HTTP_PORT, DATABASE, f"https://{KOMMO[0]}", to_postgresql, to_kommo, namespace))
    listening = life.enter_context(street.socket())
    listening.bind(KOMMO)
    return Network(DATABASE, street.within, listening, certificate.context(), hosts)


def _lay(street: Namespace, host: Namespace, name: str, subnet: str, to: Address) -> Cable:
    """A cable between `.1` in the street and `.2`, the host's only way `to` there."""
    # The host always knows whom to send to: who has to ask for it is told after 3 s that nobody is there.
    far_end = f"02:00:{':'.join(f'{int(part):02x}' for part in subnet.split('.'))}:01"
    street.ip(
        f"link add {name} address {far_end} type veth peer name {name} netns {host.path}",
        f"address add {subnet}.1/30 dev {name}",
        f"link set {name} up",
    )
    host.ip(
        f"address add {subnet}.2/30 dev {name}",
        f"link set {name} up",
        f"neighbour add {subnet}.1 lladdr {far_end} dev {name} nud permanent",
        f"route add {to[0]} via {subnet}.1",
    )
    return _Veth(street, name)


# In one host


class Relay:
    """Takes connections at `port` of this host and passes on what comes, until it is pulled."""

    def __init__(self, to: Address) -> None:
        self._to = to
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._passing: set[asyncio.Task[None]] = set()
        self._callers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def is_left(self) -> bool:
        """Whether all who are connected have broken off."""
        return all(caller.is_closing() for caller in self._callers)

    async def pull(self) -> None:
        self._is_whole.clear()

    async def plug(self) -> None:
        self._is_whole.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._passing:
                task.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._passing.add(task)
        self._callers.add(writer)
        task.add_done_callback(self._passing.discard)
        task.add_done_callback(lambda _: self._callers.discard(writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            await self._is_whole.wait()
            there, away = await asyncio.open_connection(*self._to)
            with contextlib.closing(away):
                await asyncio.gather(self._pass_on(reader, away), self._pass_on(there, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            await self._is_whole.wait()
            if reader.exception() is not None:  # it was taken back before it could arrive
                break
            writer.write(chunk)
            await writer.drain()
        await self._is_whole.wait()
        writer.close()


@asynccontextmanager
async def _relayed(count: int) -> AsyncIterator[Network]:
    database = ("127.0.0.1", unused_port())
    async with AsyncExitStack() as life:
        listening = life.enter_context(socket.create_server(("127.0.0.1", 0)))
        kommo = listening.getsockname()
        hosts = []
        for _ in range(count):
            to_postgresql = await life.enter_async_context(Relay(database).open())
            to_kommo = await life.enter_async_context(Relay(kommo).open())
            here, there = ("127.0.0.1", to_postgresql.port), f"http://127.0.0.1:{to_kommo.port}"
            hosts.append(Host(unused_port(), here, there, to_postgresql, to_kommo))
        yield Network(database, (), listening, None, hosts)
