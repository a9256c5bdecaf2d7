"""A call one has started is asked after once and answered when there is news, not every second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itgrix_kommo.calls import events as ev
from itgrix_kommo.web.originate import MOST_WAITING
from tests.web_face import BY_TOKEN, Served, face_of


@pytest.fixture
async def face(tmp_path: Path) -> AsyncIterator[Served]:
    async with face_of(tmp_path) as served:
        yield served


def is_busy(face: Served, click_id: str) -> None:
    """Asterisk's word that the employee's phone was not to be had."""
    answer = ev.OriginateResponse(
        time.time(), success=False, uniqueid="", channel_name="PJSIP/101", reason=5, action_id=click_id
    )
    face.face.clicks.clicks.hear([answer])


class TestNews:
    async def test_comes_as_soon_as_there_is_some(self, face: Served) -> None:
        click_id = (await face.call()).json["originate_id"]
        path = f"/originate/{click_id}?after=queued&wait=50"
        asked = asyncio.create_task(face.ask("GET", path, headers=BY_TOKEN))
        clicks = face.face.clicks
        async with asyncio.timeout(20):
            while not clicks._waiting:
                await asyncio.sleep(0)
        assert not asked.done()
        is_busy(face, click_id)
        async with asyncio.timeout(20):
            answer = await asked
        assert (answer.json["state"], answer.json["outcome"]) == ("ended", "employee: busy")
        assert not clicks._waiting

    @pytest.mark.parametrize("asked", ["after=employee_ringing&wait=50", "after=queued", "after=queued&wait=0", ""])
    async def test_is_not_waited_for_without_need(self, face: Served, asked: str) -> None:
        click_id = (await face.call()).json["originate_id"]
        async with asyncio.timeout(20):
            answer = await face.ask("GET", f"/originate/{click_id}?{asked}", headers=BY_TOKEN)
        assert answer.json["state"] == "queued"

    async def test_is_not_waited_for_once_it_has_ended(self, face: Served) -> None:
        click_id = (await face.call()).json["originate_id"]
        is_busy(face, click_id)
        async with asyncio.timeout(20):
            answer = await face.ask("GET", f"/originate/{click_id}?after=ended&wait=50", headers=BY_TOKEN)
        assert answer.json["state"] == "ended"

    async def test_is_not_waited_for_once_the_daemon_ends(self, face: Served) -> None:
        click_id = (await face.call()).json["originate_id"]
        path = f"/originate/{click_id}?after=queued&wait=50"
        asked = asyncio.create_task(face.ask("GET", path, headers=BY_TOKEN))
        async with asyncio.timeout(20):
            while not face.face.clicks._waiting:
                await asyncio.sleep(0)
            face.face.clicks.end()
            for answer in (await asked, await face.ask("GET", path, headers=BY_TOKEN)):
                assert answer.json["state"] == "queued"

    async def test_that_does_not_come_is_told_in_time(self, face: Served) -> None:
        click_id = (await face.call()).json["originate_id"]
        answer = await face.ask("GET", f"/originate/{click_id}?after=queued&wait=1", headers=BY_TOKEN)
        assert (answer.status, answer.json["state"]) == (200, "queued")

    async def test_is_not_waited_for_by_more_than_a_few(self, face: Served) -> None:
        click_id = (await face.call()).json["originate_id"]
        path = f"/originate/{click_id}?after=queued&wait=50"
        waiting = [asyncio.create_task(face.ask("GET", path, headers=BY_TOKEN)) for _ in range(MOST_WAITING)]
        clicks = face.face.clicks
        async with asyncio.timeout(20):
            while len(clicks._waiting[click_id]) < MOST_WAITING:
                await asyncio.sleep(0)
            assert (await face.ask("GET", path, headers=BY_TOKEN)).json["state"] == "queued"
        is_busy(face, click_id)
        assert [(await answer).json["state"] for answer in waiting] == ["ended"] * MOST_WAITING

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ("wait=5", "after"),
            ("after=lost&wait=5", "after"),
            ("after=queued&wait=51", "wait"),
            ("after=queued&wait=-1", "wait"),
            ("after=queued&wait=1e1", "wait"),
        ],
    )
    async def test_of_another_kind_is_refused(self, face: Served, asked: str, words: str) -> None:
        click_id = (await face.call()).json["originate_id"]
        (await face.ask("GET", f"/originate/{click_id}?{asked}", headers=BY_TOKEN)).refuses(400, words)
