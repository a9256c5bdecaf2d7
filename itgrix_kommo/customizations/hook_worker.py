"""Run as a script: calls Python customizations, one after another, as it is told on the socket that is its stdin.

A request is ``>L`` length and that many bytes: the file's path, a line break, the payload as JSON. A reply is ``A`` (an
answer, as JSON) or ``F`` (a failure, in words), ``>L`` length and the bytes. What the files print goes to stderr.
It stands alone: nothing of the connector is imported here.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import CodeType, ModuleType

LENGTH = struct.Struct(">L")


class Version(NamedTuple):
    """Tells whether a file is still the one that was read."""

    modified_ns: int
    size: int
    inode: int


def version_of(path: str) -> Version | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return Version(found.st_mtime_ns, found.st_size, found.st_ino)


class FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source each time: compiled files are compared by the second, and people edit faster."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class Modules:
    """The modules of one directory, loaded once and again as soon as any of them was edited."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._versions: dict[str, Version | None] = {}
        sys.path.insert(0, directory)

    def module(self, path: str) -> ModuleType:
        if any(version_of(known) != version for known, version in self._versions.items()):
            self._forget()
        name = Path(path).stem
        known = sys.modules.get(name)
        if known is not None and path in self._versions:
            return known
        importlib.invalidate_caches()
        version = version_of(path)
        spec = importlib.util.spec_from_file_location(name, path, loader=FreshLoader(name, path))
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        self._versions[path] = version
        return module

    def note(self) -> None:
        """Remember the neighbours that were imported meanwhile."""
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path not in self._versions and self._is_here(path):
                self._versions[path] = version_of(path)

    def _forget(self) -> None:
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and self._is_here(path):
                del sys.modules[name]
        self._versions.clear()

    def _is_here(self, path: str) -> bool:
        return path.startswith(self.directory + os.sep)


async def _finished(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class Worker:
    def __init__(self, connection: socket.socket, runner: asyncio.Runner) -> None:
        self._connection = connection
        self._requests = connection.makefile("rb")
        self._runner = runner
        self._modules: Modules | None = None
        self._process = os.getpid()

    def run(self) -> None:
        """Serve until the connector hangs up."""
        while len(head := self._requests.read(LENGTH.size)) == LENGTH.size:
            body = self._requests.read(LENGTH.unpack(head)[0])
            path, _, payload = body.partition(b"\n")
            kind, reply = self._reply(os.fsdecode(path), payload)
            if os.getpid() != self._process:
                os._exit(0)  # a customization forked, and its child came back here: the answer is the parent's
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            self._connection.sendall(kind + LENGTH.pack(len(reply)) + reply)

    def _reply(self, path: str, payload: bytes) -> tuple[bytes, bytes]:
        if not path:
            return b"A", b"true"
        try:
            answer = self._call(path, json.loads(payload))
            return b"A", json.dumps(answer, allow_nan=False).encode()
        except BaseException as error:  # noqa: BLE001 - sys.exit, too, must end the call and not the worker
            if self._process == os.getpid():
                traceback.print_exc()
            return b"F", _words(error, str(Path(path).parent)).encode("utf-8", "backslashreplace")

    def _call(self, path: str, params: Any) -> Any:
        directory = str(Path(path).parent)
        os.chdir(directory)
        if self._modules is None:
            self._modules = Modules(directory)
        try:
            name = Path(path).stem
            module = self._modules.module(path)
            if not hasattr(module, name):
                raise AttributeError(f"no function {name}: define one, as def {name}(params)")
            result = getattr(module, name)(params)
            if inspect.isawaitable(result):
                result = self._runner.run(_finished(result))
            return result
        finally:
            self._modules.note()


def _words(error: BaseException, directory: str) -> str:
    """The error and the line of the customization that it comes from."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return words
    if isinstance(error, SystemExit):
        words = f"it ended by sys.exit({error.code!r}) before it returned an answer"
    here = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(directory + os.sep)
    ]
    return f"{words} ({Path(here[-1].filename).name}, line {here[-1].lineno})" if here else words


def main() -> None:
    connection = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    sys.dont_write_bytecode = True
    with asyncio.Runner() as runner:
        Worker(connection, runner).run()


if __name__ == "__main__":
    main()
