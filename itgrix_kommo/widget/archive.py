"""The zip for Kommo's private integration: filled in, held against Kommo's rules, the same bytes for the same input.

The rules are those of developers.kommo.com: manifest.json, i18n/ and images/ of "Structure of widget".
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from yarl import URL

from itgrix_kommo.config import Config
from itgrix_kommo.config.values import LOOPBACK_NAMES
from itgrix_kommo.errors import ConfigError, WidgetError

SOURCE: Final = Path(__file__).parent / "source"

IMAGES: Final = {
    "images/logo.png": (130, 100),
    "images/logo_small.png": (108, 108),
    "images/logo_min.png": (84, 84),
    "images/logo_medium.png": (240, 84),
    "images/logo_main.png": (400, 272),
}
"""Width and height of each that Kommo wants; logo_dp.png only belongs to widgets of the digital pipeline."""

LARGEST_IMAGE: Final = 300 * 1024
LONGEST_WORD: Final = 19
"""Characters of a word in the widget's name; Kommo's list breaks at more."""

_STYLE_SHEET: Final = "style.css"
_TEXTS: Final = ("widget.name", "widget.description", "widget.short_description")
_MIDNIGHT: Final = (1980, 1, 1, 0, 0, 0)
_PNG: Final = struct.Struct(">8s4x4sII")


def public_address(config: Config) -> str:
    """Where browsers reach the daemon. Raises ConfigError where they could not."""
    given = config.recordings.public_url
    if given is None:
        raise ConfigError(
            "recordings.public_url: not given, so the widget would not know whom to ask: give the https address at "
            "which browsers reach the daemon, such as https://pbx.example.com:8077"
        )
    url = URL(given)
    if url.scheme != "https" and url.host not in LOOPBACK_NAMES:
        raise ConfigError(
            f"recordings.public_url: {given} is not https, and Kommo's pages may ask nobody else: give the daemon a "
            "certificate (http.public.tls_certificate) or a reverse proxy that has one, and its https address here"
        )
    return given.rstrip("/")


def files(address: str, version: str, source: Path = SOURCE) -> dict[str, bytes]:
    """What goes into the zip, by name. Raises WidgetError that lists all rules of Kommo's that are not met."""
    found = {
        path.relative_to(source).as_posix(): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()
    }
    manifest = _json(found, "manifest.json")
    manifest.setdefault("widget", {})["version"] = version
    found["manifest.json"] = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    script, style = _text(found, "script.js"), _text(found, _STYLE_SHEET)
    del found[_STYLE_SHEET]
    for place, text in {"@ADDRESS@": address, "@STYLE@": style}.items():
        script = script.replace(json.dumps(place), json.dumps(text))
    found["script.js"] = script.encode()
    problems = [*_manifest_problems(found, manifest), *_text_problems(found, manifest), *_image_problems(found)]
    if problems:
        raise WidgetError("Kommo would not take this widget:\n" + "\n".join(problems))
    return found


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """The archive, with the files at its root, as Kommo wants them."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _MIDNIGHT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[name])
    return target.getvalue()


def texts(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Each text of a localization with its place, such as `widget.name`."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from texts(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value if isinstance(value, str) else ""


def _manifest_problems(found: Mapping[str, bytes], manifest: Mapping[str, Any]) -> Iterator[str]:
    widget = manifest["widget"]
    for text in _TEXTS:
        if widget.get(text.partition(".")[2]) != text:
            yield f"manifest.json: {text}: refer to the localizations: {text!r}"
    if widget.get("interface_version") != 2:
        yield "manifest.json: widget.interface_version: Kommo knows only 2"
    if not manifest.get("locations"):
        yield "manifest.json: locations: name where the widget works, such as everywhere"
    if manifest.get("tour", {}).get("is_tour") is not True:
        yield "manifest.json: tour.is_tour: Kommo wants true"
    for locale in widget.get("locale", ()):
        for image in manifest.get("tour", {}).get("tour_images", {}).get(locale, [""]):
            if image.lstrip("/") not in found:
                yield f"manifest.json: tour.tour_images.{locale}: there is no {image or 'image'}"
    if b'"@' in found["script.js"]:
        yield "script.js: a place is not filled in"


def _text_problems(found: Mapping[str, bytes], manifest: Mapping[str, Any]) -> Iterator[str]:
    """Every localization has the same texts, none of them empty, and all that the manifest refers to."""
    named = set(manifest["widget"].get("locale", ()))
    there = {Path(name).stem for name in found if name.startswith("i18n/")}
    for locale in sorted(named ^ there):
        words = "named in the manifest, but there is no such file" if locale in named else "the manifest names it not"
        yield f"i18n/{locale}.json: {words}"
    localizations = {locale: dict(texts(_json(found, f"i18n/{locale}.json"))) for locale in sorted(there)}
    wanted = {key for one in localizations.values() for key in one} | _references(manifest)
    for locale, localization in localizations.items():
        for key in sorted(wanted):
            if not localization.get(key, "").strip():
                yield f"i18n/{locale}.json: {key}: there is no text"
        for word in localization.get("widget.name", "").split():
            if len(word) > LONGEST_WORD:
                yield f"i18n/{locale}.json: widget.name: {word!r} has more than {LONGEST_WORD} characters"


def _references(manifest: Mapping[str, Any]) -> set[str]:
    """Which texts the manifest takes from the localizations."""
    sections = {name: manifest[name] for name in ("widget", "tour", "settings") if name in manifest}
    return {text for _, text in texts(sections) if text.partition(".")[0] in {"widget", "settings"}}


def _image_problems(found: Mapping[str, bytes]) -> Iterator[str]:
    for name in sorted({*IMAGES, *(name for name in found if name.startswith("images/"))}):
        data = found.get(name)
        if data is None:
            yield f"{name}: there is no such file"
            continue
        if len(data) > LARGEST_IMAGE:
            yield f"{name}: {len(data)} bytes: Kommo takes {LARGEST_IMAGE} at most"
        size = _size(data)
        if size is None:
            yield f"{name}: it is no PNG"
        elif name in IMAGES and size != IMAGES[name]:
            yield f"{name}: it is {size[0]}x{size[1]}, Kommo wants {IMAGES[name][0]}x{IMAGES[name][1]}"


def _size(png: bytes) -> tuple[int, int] | None:
    if len(png) < _PNG.size:
        return None
    signature, chunk, width, height = _PNG.unpack_from(png)
    return (width, height) if (signature, chunk) == (b"\x89PNG\r\n\x1a\n", b"IHDR") else None


def _json(found: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        document = json.loads(_text(found, name))
    except ValueError as error:
        raise WidgetError(f"{name}: it is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise WidgetError(f"{name}: it is no object")
    return document


def _text(found: Mapping[str, bytes], name: str) -> str:
    if name not in found:
        raise WidgetError(f"{name}: there is no such file")
    try:
        text = found[name].decode()
    except UnicodeDecodeError as error:
        raise WidgetError(f"{name}: it is not written in UTF-8: {error}") from error
    if text.startswith("\ufeff"):
        raise WidgetError(f"{name}: it begins with a byte order mark, which Kommo does not take: save it without")
    return text
