"""How PHP is told to run a file, and how its answer is told from what the file prints: our side of hook.php."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from itgrix_kommo.customizations import fastcgi
from itgrix_kommo.customizations.answer import LARGEST_ANSWER
from itgrix_kommo.customizations.job import Reply, too_large
from itgrix_kommo.customizations.process import Head
from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from itgrix_kommo.customizations.job import Job

_HOOK_PHP: Final = Path(__file__).with_name("hook.php")

_SETTINGS: Final = {
    # What is printed must arrive in order and where we look for it.
    "output_buffering": "0",
    "output_handler": "",
    "zlib.output_compression": "0",
    "auto_prepend_file": "",
    "auto_append_file": "",
    "display_errors": "0",
    "log_errors": "1",
    "error_log": "",
    "html_errors": "0",
    # An edited file takes effect at the next call; opcache looks every two seconds only.
    "opcache.enable": "0",
    "opcache.enable_cli": "0",
    "realpath_cache_ttl": "0",
    # The time-out is ours: PHP's counts neither sleep nor waiting for the network.
    "max_execution_time": "0",
    "post_max_size": "0",
    "cgi.force_redirect": "0",
    "cgi.fix_pathinfo": "0",
}


class Transcript:
    """What hook.php writes: anything printed, then its reply behind a marker that nobody else knows.

    `page` tells that HTTP headers come first, as php-cgi writes them.
    """

    def __init__(self, printed: Head, *, page: bool) -> None:
        self.marker = secrets.token_hex(16).encode()
        self._printed = printed
        self._in_headers = page
        self._pending = b""
        self._reply: Head | None = None

    def feed(self, data: bytes) -> None:
        if self._reply is not None:
            self._reply.feed(data)
            return
        text = self._pending + data
        if self._in_headers:
            _, end, rest = text.partition(b"\r\n\r\n")
            if not end:
                self._pending = text
                return
            self._in_headers, text = False, rest
        before, found, after = text.partition(self.marker)
        if found:
            self._printed.feed(before)
            self._reply = Head(LARGEST_ANSWER + 64)
            self._reply.feed(after)
        else:
            keep = len(self.marker) - 1
            self._printed.feed(text[:-keep])
            self._pending = text[-keep:]

    def reply(self) -> Reply:
        """To be called when everything has arrived. Raises HookError if there is no whole reply."""
        head, _, body = bytes(self._reply.data if self._reply else b"").partition(b"\n")
        kind, length = head[:1], head[1:]
        if length.isdigit() and int(length) > LARGEST_ANSWER:
            raise too_large()
        if not length.isdigit() or len(body) < int(length):
            self._printed.feed(self._pending)
            raise HookError("PHP ended the call without an answer: what it printed is in the log")
        return Reply(kind, body[: int(length)])


def cgi_command(php_cgi: str) -> list[str]:
    settings = (("-d", f"{name}={value}") for name, value in _SETTINGS.items())
    return [php_cgi, *(word for setting in settings for word in setting)]


def cli_command(php: str) -> list[str]:
    return [*cgi_command(php), str(_HOOK_PHP)]


def body(job: Job | None, transcript: Transcript) -> bytes:
    """What hook.php reads; without a job it only says that it is there."""
    head = {"file": str(job.file.path) if job else None, "marker": transcript.marker.decode()}
    return json.dumps(head).encode() + b"\n" + (job.payload if job else b"null")


def cgi_request(job: Job | None, transcript: Transcript) -> bytes:
    """The bytes that ask a php-cgi to run hook.php."""
    content = body(job, transcript)
    params = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(content)),
        "SCRIPT_FILENAME": str(_HOOK_PHP),
    }
    return fastcgi.request(params, content)
