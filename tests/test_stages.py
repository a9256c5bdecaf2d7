"""The live path: customizations at each stage, pop-ups for whose phone rings."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.calls.call_full import call_full
from itgrix_kommo.config import Customizations
from itgrix_kommo.customizations import Customizer
from itgrix_kommo.pipeline import stages as live
from itgrix_kommo.pipeline.stages import LiveStages
from tests.story import ANN, inbound, internal, outbound, stages

CLIENT = "+79990000001"

ASKED = """
import json, pathlib
def {hook}(params):
    with pathlib.Path("asked").open("a") as asked:
        asked.write("{hook} " + params["call_stage"] + chr(10))
    return {{"state": "success", "data": {answer}}}
"""


class Screen:
    def __init__(self) -> None:
        self.shown: list[tuple[str, list[int]]] = []

    def show(self, phone: str, users: Collection[int], *, call_id: str = "") -> None:
        assert call_id
        self.shown.append((phone, list(users)))


class Stand:
    def __init__(self, directory: Path, popup: Any = "ringing") -> None:
        self.directory = directory
        self.screen = Screen()
        self.customizer = Customizer(Customizations.model_validate({"directory": str(directory)}))
        self.live = LiveStages(
            self.customizer,
            self.screen,
            popup=popup,
            phone_of=str,
            full_of=call_full,
            unlisted=lambda _call, phone: "on the blacklist" if phone == "+70000000000" else "",
        )

    def hook(self, name: str, answer: str) -> None:
        (self.directory / f"{name}.py").write_text(ASKED.format(hook=name, answer=answer))

    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().splitlines()

    async def tell(self, told: list[Any]) -> None:
        await self.customizer.start()
        try:
            for stage in stages(told):
                self.live.on_stage(stage)
            while self.live._under_way:
                await asyncio.gather(*self.live._under_way.values())
        finally:
            await self.live.close()
            await self.customizer.stop()


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


class TestPopups:
    async def test_whose_phone_rings_sees_the_caller_once(self, stand: Stand) -> None:
        await stand.tell(inbound())
        assert stand.screen.shown == [(CLIENT, [ANN])]
        assert stand.live._shown == {}

    async def test_at_the_answer_if_so_configured(self, tmp_path: Path) -> None:
        stand = Stand(tmp_path, "answered")
        await stand.tell(inbound(answered=False))
        assert stand.screen.shown == []
        await stand.tell(inbound())
        assert stand.screen.shown == [(CLIENT, [ANN])]

    @pytest.mark.parametrize("told", [outbound(), internal(), inbound("anonymous"), inbound(phone="109")])
    async def test_nobody_sees_other_calls(self, stand: Stand, told: list[Any]) -> None:
        await stand.tell(told)
        assert stand.screen.shown == []

    async def test_off_is_off(self, tmp_path: Path) -> None:
        stand = Stand(tmp_path, "off")
        await stand.tell(inbound())
        assert stand.screen.shown == []

    async def test_a_listed_caller_is_not_shown(self, stand: Stand) -> None:
        await stand.tell(inbound("+70000000000"))
        assert stand.screen.shown == []


class TestCustomizations:
    async def test_both_are_asked_once_at_each_stage_in_their_order(self, stand: Stand) -> None:
        stand.hook("process_client_phone", '{"phone": "8" + params["phone"][2:]}')
        stand.hook("need_registration", '{"result": True}')
        await stand.tell(inbound())
        names = ("conversation_requested", "conversation_accepted", "conversation_ended")
        assert stand.asked() == [
            f"{hook} {name}" for name in names for hook in ("process_client_phone", "need_registration")
        ]
        assert stand.screen.shown == [("89990000001", [ANN])]

    async def test_no_popup_at_a_stage_that_said_no(self, stand: Stand) -> None:
        stand.hook("need_registration", '{"result": False}')
        await stand.tell(inbound())
        assert stand.screen.shown == []

    async def test_a_failing_one_stops_nothing(self, stand: Stand) -> None:
        (stand.directory / "need_registration.py").write_text("def need_registration(params):\n    raise KeyError(1)\n")
        await stand.tell(inbound())
        assert stand.screen.shown == [(CLIENT, [ANN])]

    async def test_too_many_at_once_are_let_go(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "AT_ONCE", 0)
        await stand.tell(inbound())
        assert stand.screen.shown == []
