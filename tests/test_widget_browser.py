"""The widget in a real browser: from a click in Kommo, over the connector's real door, to what the user is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import unused_port

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.ami.settings import LinkStatus
from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.configured import number_plan
from itgrix_kommo.errors import AmiActionTimeout
from itgrix_kommo.storage.trace import read_trace
from itgrix_kommo.web.clicks import VARIABLE, State
from itgrix_kommo.widget.archive import files, zipped
from tests.headless_browser import DEADLINE, Page, open_page
from tests.kommo_page import KommoPage, kommo_page
from tests.web_face import ANN, Served, face_of, settings, signed

TRACES = Path(__file__).parent / "traces" / "22"
PHONE = "+7 (999) 050-00-32"
OTHER = "+7 999 050-00-33"

# One browser for all: to start it takes longer than a test.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("widget")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    async with open_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


class Desk:
    """A user at Kommo's page, and the connector that it asks."""

    def __init__(self, kommo: KommoPage, face: Served) -> None:
        self.kommo = kommo
        self.face = face

    async def opens(self, *phones: str, **more: Any) -> None:
        await self.kommo.opens(phones=list(phones or [PHONE]), **more)

    async def asterisk_has(self, orders: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.face.asterisk.actions) < orders:
                await asyncio.sleep(0.05)

    async def calls(self, trace: str) -> RecordedCall:
        """Click, and let Asterisk do with it what it once did with another."""
        await self.kommo.clicks(PHONE)
        await self.asterisk_has(1)
        return RecordedCall(self.face, trace)


class RecordedCall:
    """A click-to-call recorded on a real Asterisk, played as the one that was just ordered, as of now."""

    def __init__(self, face: Served, trace: str) -> None:
        self._clicks = face.face.clicks.clicks
        self._tracker = Tracker(number_plan(face.config))
        self._click_id = str(face.originated["ActionID"])
        self._events = self._read(TRACES / f"{trace}.trace")
        self._last = time.time()

    def until(self, state: State) -> None:
        """Go on until the click is in this state."""
        for event in self._events:
            stages = self._tracker.feed(event)
            self._clicks.hear([event])
            self._last = event.at
            for stage in stages:
                self._clicks.follow(stage)
            if self._state is state:
                return
        for stage in self._tracker.advance(self._last + 60):
            self._clicks.follow(stage)
        assert self._state is state

    @property
    def _state(self) -> State:
        click = self._clicks.get(self._click_id, f"user {ANN}", time.time())
        assert click is not None
        return click.state

    def _read(self, path: Path) -> Iterator[ev.Event]:
        shift, born = None, False
        for at, frame in read_trace(path):
            shift = time.time() - at if shift is None else shift
            event = decode(frame, at + shift)
            if event is None:
                continue
            yield event
            if isinstance(event, ev.Newchannel) and not born:
                born = True
                yield ev.VarSet(event.at, event.channel.uniqueid, VARIABLE, self._click_id)


@asynccontextmanager
async def a_desk(browser: Page, directory: Path, **more: Any) -> AsyncIterator[Desk]:
    """`more` replaces sections of the connector's configuration."""
    port = unused_port()
    async with kommo_page(browser) as kommo:
        kommo.upload(zipped(files(f"http://127.0.0.1:{port}", "1.2.3")))
        account = {**settings(directory)["kommo"], "base_url": kommo.origin}
        async with face_of(directory, kommo=account, **{"http": {"port": port}, **more}) as face:
            yield Desk(kommo, face)


@pytest_asyncio.fixture(loop_scope="module")
async def desk(browser: Page, tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(browser, tmp_path) as desk:
        yield desk


class TestACall:
    async def test_is_shown_from_the_click_to_the_end(self, desk: Desk) -> None:
        kommo = desk.kommo
        await desk.opens()
        call = await desk.calls("click_to_call")
        assert (desk.face.originated["Channel"], desk.face.originated["Exten"]) == ("PJSIP/101", "+79990500032")
        assert (await kommo.shows(state="queued"))["number"] == PHONE
        for state in (State.EMPLOYEE_RINGING, State.EMPLOYEE_ANSWERED, State.CLIENT_RINGING):
            call.until(state)
            await kommo.shows(state=state, line=kommo.text("call", state), time="", again="")
        call.until(State.TALKING)
        first = await kommo.shows(state="talking", line="Talking")
        async with asyncio.timeout(DEADLINE):
            while (await kommo.shows(state="talking"))["time"] == first["time"]:
                await asyncio.sleep(0.05)
        call.until(State.ENDED)
        end = await kommo.shows(state="ended", line="Talked", tone="is-good", again="")
        assert end["time"].startswith("0:")
        await kommo.shows_nothing()
        assert len(desk.face.asterisk.actions) == 1

    async def test_costs_few_tokens(self, desk: Desk) -> None:
        await desk.opens()
        call = await desk.calls("click_to_call")
        for state in list(State)[1:]:
            call.until(state)
            await desk.kommo.shows(state=state)
        # One to call and one to ask from each state but the last.
        assert desk.kommo.tokens == len(State)

    @pytest.mark.parametrize(
        ("trace", "section", "outcome"),
        [
            ("click_to_call_not_answered", "client_outcomes", "busy"),
            ("click_to_call_refused", "employee_outcomes", "busy"),
        ],
    )
    async def test_that_did_not_come_about_can_be_placed_again(
        self, desk: Desk, trace: str, section: str, outcome: str
    ) -> None:
        kommo = desk.kommo
        await desk.opens(language="ru")
        (await desk.calls(trace)).until(State.ENDED)
        await kommo.shows(state="ended", line=kommo.text(section, outcome), tone="", again=kommo.text("call", "again"))
        await kommo.run("kommo.press('again')")
        await desk.asterisk_has(2)
        await kommo.shows(state="queued")

    async def test_goes_on_without_its_card(self, desk: Desk) -> None:
        await desk.opens()
        await desk.calls("click_to_call")
        await desk.kommo.shows(state="queued")
        await desk.kommo.run("kommo.press('close')")
        await desk.kommo.shows_nothing()
        assert len(desk.face.asterisk.actions) == 1


class TestOneCall:
    async def test_for_a_double_click(self, desk: Desk) -> None:
        await desk.opens()
        await desk.kommo.run(f"kommo.click('{PHONE}'); kommo.click('{PHONE}')")
        await desk.kommo.shows(state="queued")
        await desk.kommo.clicks(PHONE)
        await desk.kommo.shows(state="queued")
        assert len(desk.face.asterisk.actions) == 1

    async def test_though_its_card_is_away(self, desk: Desk) -> None:
        await desk.opens()
        await desk.calls("click_to_call")
        await desk.kommo.run("kommo.widgets[0].custom.callbacks.destroy()")
        await desk.kommo.shows_nothing()
        await desk.kommo.clicks(PHONE)
        await desk.kommo.shows(state="queued")
        assert len(desk.face.asterisk.actions) == 1

    async def test_though_the_script_is_loaded_twice(self, desk: Desk) -> None:
        await desk.opens(copies=2)
        call = await desk.calls("click_to_call")
        call.until(State.TALKING)
        await desk.kommo.shows(state="talking")
        await desk.kommo.run("kommo.goTo('ccard')")
        await desk.kommo.shows(state="talking")
        assert len(desk.face.asterisk.actions) == 1

    async def test_for_each_of_two_numbers(self, desk: Desk) -> None:
        await desk.opens(PHONE, OTHER)
        await desk.kommo.clicks(PHONE)
        await desk.kommo.clicks(OTHER)
        await desk.asterisk_has(2)
        assert [card["number"] for card in await desk.kommo.cards()] == [PHONE, OTHER]

    async def test_after_one_that_was_refused(self, desk: Desk) -> None:
        await desk.opens("112", PHONE)
        await desk.kommo.clicks("112")
        await desk.kommo.shows(state="failed", number="112")
        await desk.kommo.clicks(PHONE)
        await desk.kommo.shows(state="queued", number=PHONE)


class TestPages:
    async def test_change_and_the_call_goes_on(self, desk: Desk) -> None:
        kommo = desk.kommo
        await desk.opens()
        call = await desk.calls("click_to_call")
        call.until(State.EMPLOYEE_RINGING)
        await kommo.shows(state="employee_ringing")
        await kommo.run("kommo.goTo('llist')")
        await kommo.shows(state="employee_ringing")
        call.until(State.TALKING)
        await kommo.shows(state="talking")
        tokens = kommo.tokens
        for area in ("ccard", "lcard", "llist", "ccard", "lcard", "llist"):
            await kommo.run(f"kommo.goTo('{area}')")
        await kommo.shows(state="talking")
        assert kommo.tokens == tokens  # the question that is open serves all pages
        call.until(State.ENDED)
        await kommo.shows(state="ended", tone="is-good")

    async def test_may_be_rebuilt_without_the_card(self, desk: Desk) -> None:
        await desk.opens()
        call = await desk.calls("click_to_call")
        await desk.kommo.shows(state="queued")
        await desk.kommo.run("document.querySelector('.itgrix-calls').remove()")
        await desk.kommo.clicks(PHONE)
        await desk.kommo.shows(state="queued")
        await desk.kommo.run(
            "document.querySelector('.itgrix-calls').remove(); kommo.widgets[0].custom.callbacks.render()"
        )
        call.until(State.TALKING)
        await desk.kommo.shows(state="talking")
        assert len(desk.face.asterisk.actions) == 1

    async def test_keep_nothing_of_a_widget_that_is_switched_off(self, desk: Desk) -> None:
        kommo = desk.kommo
        await desk.opens()
        call = await desk.calls("click_to_call")
        await kommo.shows(state="queued")
        await kommo.run("kommo.widgets[0].custom.callbacks.destroy()")
        await kommo.shows_nothing()
        tokens = kommo.tokens
        call.until(State.TALKING)
        async with asyncio.timeout(DEADLINE):
            while desk.face.face.clicks._waiting:
                await asyncio.sleep(0.05)
        # What the last answer could have set off is asked of Kommo before what the page itself asks after it.
        await kommo.run("new Promise((done) => setTimeout(done, 100)).then(() => fetch('/'))")
        assert kommo.tokens == tokens

    async def test_get_no_names_from_us(self, desk: Desk) -> None:
        await desk.opens()
        await desk.calls("click_to_call")
        await desk.kommo.shows(state="queued")
        names = await desk.kommo.run("Object.getOwnPropertyNames(window).filter((name) => !before.has(name))")
        assert names == []

    async def test_style_no_card_and_are_not_styled(self, desk: Desk) -> None:
        await desk.opens("112")
        colour = "getComputedStyle(document.body).backgroundColor"
        before = await desk.kommo.run(colour)
        await desk.kommo.clicks("112")
        await desk.kommo.shows(state="failed")
        button = await desk.kommo.run("getComputedStyle(kommo.shadow().querySelector('.again')).textTransform")
        assert (button, await desk.kommo.run(colour)) == ("none", before)

    @pytest.mark.parametrize(
        "phone", ['<img src=x onerror="window.hacked=1">', "<b>1</b>'\"&amp;", "\u202e112" + "9" * 200]
    )
    async def test_are_safe_from_what_stands_in_a_number(self, desk: Desk, phone: str) -> None:
        await desk.opens(phone)
        await desk.kommo.clicks(phone)
        assert (await desk.kommo.shows(state="failed", tone="is-bad"))["number"] == phone
        assert await desk.kommo.run("kommo.shadow().querySelectorAll('img, b').length") == 0
        assert await desk.kommo.run("window.hacked") is None
        assert not desk.face.asterisk.actions

    async def test_may_be_dark(self, desk: Desk) -> None:
        await desk.opens("112")
        await desk.kommo.run("document.documentElement.dataset.colorScheme = 'dark'")
        await desk.kommo.clicks("112")
        await desk.kommo.shows(state="failed")
        surface = "getComputedStyle(kommo.shadow().querySelector('.card')).backgroundColor"
        assert await desk.kommo.run(surface) == "rgb(21, 48, 67)"


class TestRefused:
    async def tells(self, desk: Desk, error: str, note: str = "", phone: str = PHONE, language: str = "es") -> None:
        """Hold what the user reads; nothing may have been dialled."""
        await desk.opens(phone, language=language)
        await desk.kommo.clicks(phone)
        shown = await desk.kommo.shows(state="failed", line=desk.kommo.text("errors", error))
        assert shown["again"] == ("" if error in {"400", "403", "404"} else desk.kommo.text("call", "again"))
        if note:
            assert shown["note"].startswith(desk.kommo.text("call", "for_administrator"))
        assert note in shown["note"]
        assert not desk.face.asterisk.actions

    async def test_what_is_no_number(self, desk: Desk) -> None:
        await self.tells(desk, "400", phone="call me", language="en")

    async def test_who_is_not_known(self, desk: Desk) -> None:
        desk.kommo.token = lambda: signed(iss=desk.kommo.origin, key="another-secret")
        await self.tells(desk, "401", "kommo.integration.client_secret", language="pt")

    async def test_who_has_no_phone(self, desk: Desk) -> None:
        desk.kommo.token = lambda: signed(iss=desk.kommo.origin, user_id=77)
        await self.tells(desk, "404", "employees: nobody has the user_id 77", language="ru")

    async def test_a_number_that_is_not_allowed(self, browser: Page, tmp_path: Path) -> None:
        async with a_desk(browser, tmp_path, originate={"allowed": ["+34XXXXXXXXX"]}) as desk:
            await self.tells(desk, "403", "originate.allowed")

    async def test_too_many_at_once(self, browser: Page, tmp_path: Path) -> None:
        async with a_desk(browser, tmp_path, originate={"per_user_per_minute": 1}) as desk:
            await desk.opens(PHONE, OTHER)
            (await desk.calls("click_to_call_refused")).until(State.ENDED)
            await desk.kommo.shows(state="ended")
            await desk.kommo.clicks(OTHER)
            shown = await desk.kommo.shows(state="failed", number=OTHER, note="")
        before, after = desk.kommo.text("errors", "429").split("{seconds}")
        seconds = shown["line"].removeprefix(before).removesuffix(after)
        assert 1 <= int(seconds) <= 60

    async def test_without_asterisk(self, desk: Desk) -> None:
        desk.face.asterisk.status = LinkStatus(error="connection refused")
        await self.tells(desk, "503", "connection refused")

    async def test_by_an_asterisk_that_says_nothing(self, desk: Desk) -> None:
        desk.face.asterisk.failure = AmiActionTimeout("silent")
        await self.tells(desk, "503", "nobody knows whether it rings")

    async def test_by_kommo_itself(self, desk: Desk) -> None:
        desk.kommo.token = lambda: None
        await self.tells(desk, "other")

    @pytest.mark.parametrize(
        ("address", "error"),
        [("http://127.0.0.1:{port}", "0"), ("http://pbx.example.com", "address"), ("pbx", "address")],
    )
    async def test_where_the_address_leads_nowhere(self, desk: Desk, address: str, error: str) -> None:
        await desk.opens(settings={"server_url": address.format(port=unused_port())})
        await desk.kommo.clicks(PHONE)
        assert (await desk.kommo.shows(state="failed"))["line"] == desk.kommo.text("errors", error)

    @pytest.mark.parametrize(("kind", "error"), [("pages", "0"), ("json", "other")])
    async def test_by_something_else_at_the_address(self, desk: Desk, kind: str, error: str) -> None:
        await desk.opens(settings={"server_url": f"{desk.kommo.origin}/elsewhere/{kind}/"})
        await desk.kommo.clicks(PHONE)
        assert (await desk.kommo.shows(state="failed"))["line"] == desk.kommo.text("errors", error)

    async def test_pages_of_another_account(self, browser: Page, tmp_path: Path) -> None:
        port = unused_port()
        async with kommo_page(browser) as kommo, face_of(tmp_path, http={"port": port}) as face:
            kommo.upload(zipped(files(f"http://127.0.0.1:{port}", "1.2.3")))
            await self.tells(Desk(kommo, face), "0")


class TestTrouble:
    async def test_with_one_token_is_overcome_by_the_next(self, desk: Desk) -> None:
        tokens = iter([signed(iss=desk.kommo.origin, exp=0), *(signed(iss=desk.kommo.origin) for _ in range(9))])
        desk.kommo.token = lambda: next(tokens)
        await desk.opens()
        (await desk.calls("click_to_call")).until(State.TALKING)
        await desk.kommo.shows(state="talking")
        assert len(desk.face.asterisk.actions) == 1

    async def test_on_the_way_is_waited_out(self, desk: Desk) -> None:
        await desk.opens()
        call = await desk.calls("click_to_call")
        await desk.kommo.shows(state="queued")
        good, desk.kommo.token = desk.kommo.token, lambda: None
        tokens = desk.kommo.tokens
        call.until(State.EMPLOYEE_RINGING)
        async with asyncio.timeout(DEADLINE):
            while desk.kommo.tokens < tokens + 2:
                await asyncio.sleep(0.05)
        desk.kommo.token = good
        call.until(State.TALKING)
        await desk.kommo.shows(state="talking")

    async def test_the_connector_has_forgotten_the_call(self, desk: Desk) -> None:
        await desk.opens()
        call = await desk.calls("click_to_call")
        await desk.kommo.shows(state="queued")
        call.until(State.EMPLOYEE_RINGING)
        await desk.kommo.shows(state="employee_ringing")
        clicks = desk.face.face.clicks.clicks
        call.until(State.EMPLOYEE_ANSWERED)
        clicks.drop(str(desk.face.originated["ActionID"]))
        shown = await desk.kommo.shows(state="lost", again="")
        assert shown["line"] == desk.kommo.text("call", "lost")
