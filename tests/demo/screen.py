"""What the one who watches sees: steps, calls as they arrive, the ledger in the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tests.demo.calls import Placed
from tests.demo.ledger import Ledger, Verdict

__all__ = ["Screen"]

ARROWS = {"in": "↙ in", "out": "↗ out"}
PLAIN_WIDTH = 120
"""Columns where the output is no terminal: a log, a pipe."""


class Screen:
    """On a terminal the calls' lines change as they go; elsewhere each change is a line of its own."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = max(self.console.width, PLAIN_WIDTH)
        self._begun = time.monotonic()
        self._calls: dict[Placed, tuple[str, list[str]]] = {}
        """Per call: where it stands, and what of it has arrived."""
        self._live: Live | None = None

    def say(self, line: str) -> None:
        self.console.print(f"  [dim]{escape(line)}[/]")

    def warn(self, line: str) -> None:
        self.console.print(f"\n[bold yellow]! {escape(line)}[/]\n")

    def fail(self, line: str) -> None:
        self.console.print(f"[bold red]✗ {escape(line)}[/]")

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[str], None]]:
        """Something that takes a while; what is handed to the yielded function is told when it is done."""
        begun = time.monotonic()
        told: list[str] = []
        waiting: AbstractContextManager[object] = self.console.status(what)
        with waiting:
            yield told.append
        took = f"[dim]{time.monotonic() - begun:.1f} s[/]"
        self.console.print(f"[green]✓[/] {what}: {escape(' '.join(told))}  {took}", soft_wrap=True)

    # The calls

    @contextmanager
    def calls(self, placed: Sequence[Placed]) -> Iterator[None]:
        """Shows the calls while the block lasts."""
        self._calls = {each: ("", []) for each in placed}
        self._begun = time.monotonic()
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self._lines, console=self.console, refresh_per_second=8) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def moved(self, placed: Placed, state: str) -> None:
        """Where a call stands: ``calling``, ``over``, or why it could not be placed."""
        self._calls[placed] = (state, self._calls[placed][1])
        if self._live is None and state != "over":
            self._line(f"{placed.story}" if state == "calling" else f"{placed.story}: {state}")

    def arrived(self, placed: Placed, what: str) -> None:
        self._calls[placed][1].append(what)
        if self._live is None:
            self._line(f"{placed.story} → {what}")

    def awaited(self) -> int:
        """How many calls must still arrive."""
        return sum(max(0, len(placed.expected) - len(arrived)) for placed, (_, arrived) in self._calls.items())

    def failures(self) -> list[tuple[Placed, str]]:
        """The calls that could not be placed, and why."""
        return [(placed, state) for placed, (state, _) in self._calls.items() if state not in {"over", "calling"}]

    def _line(self, line: str) -> None:
        self.console.print(f"  {time.monotonic() - self._begun:5.1f} s  {escape(line)}", soft_wrap=True)

    def _lines(self) -> RenderableType:
        table = Table("what is placed", "", "what Kommo now holds", box=None, padding=(0, 1), expand=False)
        for placed, (state, arrived) in self._calls.items():
            table.add_row(
                Text(placed.story, no_wrap=True, style="" if state else "dim"),
                self._mark(placed, state, len(arrived)),
                Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in arrived))
                if arrived
                else Text(self._meanwhile(placed, state), style="dim", no_wrap=True, overflow="ellipsis"),
            )
        return table

    @staticmethod
    def _mark(placed: Placed, state: str, arrived: int) -> RenderableType:
        if state.startswith("could not"):
            return Text("✗", style="bold red")
        if not state:
            return Text(" ")
        if arrived < len(placed.expected) or state == "calling":
            return Spinner("dots", style="yellow")
        return Text("✓", style="green")

    @staticmethod
    def _meanwhile(placed: Placed, state: str) -> str:
        if state == "over":
            return "on its way …" if placed.expected else "nothing: colleagues' calls stay in the house"
        return state

    # The end

    def ledger(self, ledger: Ledger, verdict: Verdict) -> None:
        self.console.print("\n[bold]The calls that Kommo holds[/], read over its API:")
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in ("", "client", "way", "result", "length", "user", "on"):
            table.add_column(name, no_wrap=name in {"client", "way", "length"}, overflow="fold")
        for call in ledger.calls:
            table.add_row(
                "[green]✓[/]" if call.note_id in verdict.right else "[bold red]✗[/]",
                escape(call.phone),
                ARROWS[call.direction],
                escape(call.result),
                f"{call.duration // 60}:{call.duration % 60:02}",
                escape(ledger.user(call.user_id)),
                escape(call.card),
            )
        self.console.print(table)

    def cards(self, ledger: Ledger, known: Sequence[str]) -> None:
        made = [contact.name for contact in ledger.contacts if contact.name not in known]
        self.console.print(
            f"[bold]{len(ledger.contacts)} contacts[/], {len(made)} of them made for strangers;"
            f" [bold]{ledger.leads} leads[/]; [bold]{ledger.tasks} tasks[/]"
        )

    def audit(self, audit: dict[str, Any], limit: int) -> None:
        doubles = sum(len(found) for found in audit["duplicates"].values())
        self.console.print(
            f"[bold]{audit['total']} requests[/] to Kommo, {audit['most_in_a_second']} at most within a second"
            f" (Kommo allows {limit}); beyond the limit: {audit['breaches']}; doubled records: {doubles}"
        )

    def health(self, address: str, status: int, body: dict[str, Any]) -> None:
        self.console.print(f"\n[bold]{address}/healthz[/] answers {status}:")
        self.console.print(escape(json.dumps(body, indent=2)))

    def verdict(self, count: int, wrong: Sequence[str]) -> None:
        if not wrong:
            self.console.print(
                f"\n[bold green]✓ Kommo holds all {count} calls as they were placed, and nothing else[/]"
            )
            return
        self.console.print("\n[bold red]✗ Kommo does not hold what was placed:[/]")
        for line in wrong:
            self.console.print(f"  {escape(line)}", soft_wrap=True)

    def places(self, **places: object) -> None:
        """Where to look on: names (``_`` is a blank) and addresses or paths."""
        self.console.print()
        width = max(map(len, places))
        for name, place in places.items():
            self.console.print(f"  {name.replace('_', ' '):{width}}  {escape(str(place))}", soft_wrap=True)
