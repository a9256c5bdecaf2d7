"""The widget's zip: what is in it, what it must hold, and what `itgrix-kommo widget build` says."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo import __version__
from itgrix_kommo.calls import outcome
from itgrix_kommo.calls.outcome import Outcome
from itgrix_kommo.config import Config
from itgrix_kommo.errors import ConfigError, WidgetError
from itgrix_kommo.web.clicks import UNHEARD_OF, State
from itgrix_kommo.widget.archive import IMAGES, SOURCE, files, public_address, texts, zipped
from tests.web_face import settings

ADDRESS = "https://pbx.example.com:8077"
LOCALES = ("en", "es", "pt", "ru")
LOCALIZATIONS = {locale: json.loads((SOURCE / "i18n" / f"{locale}.json").read_text()) for locale in LOCALES}
OUTCOMES = [one for one in vars(outcome).values() if isinstance(one, Outcome)]


class TestTheZip:
    def test_has_what_kommo_wants_at_its_root(self) -> None:
        with zipfile.ZipFile(io.BytesIO(zipped(files(ADDRESS, "1.2.3")))) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            manifest = json.loads(archive.read("manifest.json"))
            script = archive.read("script.js").decode()
        localizations = [f"i18n/{locale}.json" for locale in LOCALES]
        tour = [f"images/tour_{locale}.png" for locale in LOCALES]
        assert names == sorted(["manifest.json", "script.js", *localizations, *IMAGES, *tour])
        assert (manifest["widget"]["version"], manifest["widget"]["locale"]) == ("1.2.3", list(LOCALES))
        assert f'const ADDRESS = "{ADDRESS}";' in script
        assert ":host {\\n" in script

    def test_is_the_same_for_the_same(self, tmp_path: Path) -> None:
        copy = shutil.copytree(SOURCE, tmp_path / "source", copy_function=shutil.copyfile)
        assert zipped(files(ADDRESS, "1.2.3", copy)) == zipped(files(ADDRESS, "1.2.3"))
        assert zipped(files(ADDRESS, "1.2.4")) != zipped(files(ADDRESS, "1.2.3"))

    def test_keeps_an_odd_address_a_text(self) -> None:
        script = files('https://pbx.example.com/"+alert(1)+"', "1.2.3")["script.js"].decode()
        assert r'const ADDRESS = "https://pbx.example.com/\"+alert(1)+\"";' in script


@pytest.mark.parametrize("locale", LOCALES)
class TestTexts:
    def test_are_there_for_each_state_and_outcome(self, locale: str) -> None:
        found = LOCALIZATIONS[locale]
        assert set(State) <= set(found["call"])
        for one in OUTCOMES:
            key = one.text.replace(" ", "_")
            assert key in found["client_outcomes"]
            # Who talked or left a message got past the employee's own phone.
            assert (key in found["employee_outcomes"]) is (one.result != 200)
        assert UNHEARD_OF.replace(" ", "_") in found["client_outcomes"]

    def test_are_there_for_each_refusal(self, locale: str) -> None:
        errors = LOCALIZATIONS[locale]["errors"]
        assert set(errors) == {"0", "400", "401", "403", "404", "429", "503", "address", "other"}
        assert "{seconds}" in errors["429"]

    def test_are_no_copies_of_the_english_ones(self, locale: str) -> None:
        english = dict(texts(LOCALIZATIONS["en"]))
        same = {key for key, text in texts(LOCALIZATIONS[locale]) if text == english[key]}
        assert same == (set(english) if locale == "en" else set())


def edit(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def act(source: Path) -> None:
        document = json.loads((source / name).read_text())
        change(document)
        (source / name).write_text(json.dumps(document))

    return act


def write(name: str, data: bytes) -> Callable[[Path], None]:
    def act(source: Path) -> None:
        (source / name).write_bytes(data)

    return act


def remove(name: str) -> Callable[[Path], None]:
    return lambda source: (source / name).unlink()


LOGO = (SOURCE / "images" / "logo.png").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove("manifest.json"), "manifest.json: there is no such file"),
        (write("manifest.json", b"[]"), "manifest.json: it is no object"),
        (edit("manifest.json", lambda one: one["widget"].pop("description")), "manifest.json: widget.description"),
        (edit("manifest.json", lambda one: one["widget"].update(interface_version=1)), "Kommo knows only 2"),
        (edit("manifest.json", lambda one: one.update(locations=[])), "manifest.json: locations"),
        (edit("manifest.json", lambda one: one.pop("tour")), "manifest.json: tour.is_tour"),
        (edit("manifest.json", lambda one: one["widget"]["locale"].append("tr")), "i18n/tr.json: named in"),
        (edit("manifest.json", lambda one: one["widget"]["locale"].pop()), "i18n/ru.json: the manifest names it not"),
        (
            edit("manifest.json", lambda one: one["settings"].update(a={"name": "settings.a"})),
            "i18n/en.json: settings.a",
        ),
        (edit("i18n/pt.json", lambda one: one["call"].pop("talking")), "i18n/pt.json: call.talking: there is no text"),
        (edit("i18n/pt.json", lambda one: one["call"].update(talking=" ")), "i18n/pt.json: call.talking"),
        (edit("i18n/es.json", lambda one: one["call"].update(more="más")), "i18n/en.json: call.more: there is no text"),
        (edit("i18n/es.json", lambda one: one["widget"].update(name="T" * 20)), "more than 19 characters"),
        (write("i18n/ru.json", b"\xef\xbb\xbf{}"), "i18n/ru.json: it begins with a byte order mark"),
        (write("i18n/ru.json", "{}".encode("utf-16")), "i18n/ru.json: it is not written in UTF-8"),
        (write("i18n/ru.json", b"{"), "i18n/ru.json: it is no JSON"),
        (write("script.js", b"\xff"), "script.js: it is not written in UTF-8"),
        (remove("images/logo_min.png"), "images/logo_min.png: there is no such file"),
        (remove("images/tour_es.png"), "tour_images.es: there is no /images/tour_es.png"),
        (write("images/logo_min.png", LOGO), "images/logo_min.png: it is 130x100, Kommo wants 84x84"),
        (write("images/logo.png", b"GIF89a"), "images/logo.png: it is no PNG"),
        (write("images/logo.png", LOGO + b"\0" * 307_200), "Kommo takes 307200 at most"),
        (write("script.js", b'define([], () => "@OTHER@");'), "script.js: a place is not filled in"),
        (remove("script.js"), "script.js: there is no such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_kommo_would_not_take_is_not_built(spoil: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    source = shutil.copytree(SOURCE, tmp_path / "source")
    spoil(source)
    with pytest.raises(WidgetError) as refused:
        files(ADDRESS, "1.2.3", source)
    assert words in str(refused.value)


class TestTheAddress:
    def of(self, tmp_path: Path, public_url: str | None) -> str:
        recordings = {"public_url": public_url} if public_url else {}
        return public_address(Config.model_validate(settings(tmp_path, recordings=recordings)))

    @pytest.mark.parametrize(
        ("given", "address"),
        [
            (ADDRESS, ADDRESS),
            (ADDRESS + "/", ADDRESS),
            ("https://example.com/pbx/", "https://example.com/pbx"),
            ("http://127.0.0.1:8077", "http://127.0.0.1:8077"),
        ],
    )
    def test_is_that_of_the_recordings(self, tmp_path: Path, given: str, address: str) -> None:
        assert self.of(tmp_path, given) == address

    def test_is_needed(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"recordings\.public_url: not given.*such as https://"):
            self.of(tmp_path, None)

    def test_is_encrypted(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"http://pbx\.example\.com is not https.*tls_certificate"):
            self.of(tmp_path, "http://pbx.example.com")


class TestTheCommand:
    def build(self, tmp_path: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({**settings(tmp_path), "recordings": {"public_url": ADDRESS}, **more}))
        config.chmod(0o600)
        return subprocess.run(
            [sys.executable, "-m", "itgrix_kommo", "widget", "build", "--config", config, *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_writes_the_zip_where_it_is_called(self, tmp_path: Path) -> None:
        done = self.build(tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"widget.zip: version {__version__}" in done.stdout
        assert ADDRESS in done.stdout
        assert "!" not in done.stdout
        assert (tmp_path / "widget.zip").read_bytes() == zipped(files(ADDRESS, __version__))

    def test_says_what_the_daemon_lacks(self, tmp_path: Path) -> None:
        kommo = {"base_url": "https://acme.kommo.com", "access_token": "access-token-of-tests"}
        done = self.build(tmp_path, "--json", "--output", "other.zip", kommo=kommo, employees=[])
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["file"], told["version"], told["address"]) == ("other.zip", __version__, ADDRESS)
        assert [warning.split(":")[0] for warning in told["warnings"]] == ["kommo.integration", "employees"]
        assert (tmp_path / "other.zip").exists()

    @pytest.mark.parametrize("url", [None, "http://pbx.example.com"])
    def test_refuses_an_address_that_kommo_could_not_ask(self, tmp_path: Path, url: str | None) -> None:
        done = self.build(tmp_path, recordings={"public_url": url})
        assert done.returncode == 1
        assert "recordings.public_url" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "widget.zip").exists()

    def test_names_a_place_that_can_not_be_written(self, tmp_path: Path) -> None:
        done = self.build(tmp_path, "--output", "none/widget.zip")
        assert done.returncode == 1
        assert "none/widget.zip can't be written" in done.stderr
        assert "Traceback" not in done.stderr
