"""A real Asterisk for tests: a PBX and a world of phones and carriers around it, directed over AMI.

    async def test_a_missed_call(lab: Lab) -> None:                  # from tests.lab.stage import Lab
        client, anna = lab.client(), lab.phone(101)                   # a fresh +7999… number; a registered phone
        await client.calls("4957770101")                              # through `trunk`; trunk="trunk2", name="Иван"
        await anna.rings()
        await client.hangs_up()
        await lab.quiet()                                             # the PBX has no channel left

Mark such tests `pytest.mark.lab` and take the fixture `lab` (tests/conftest.py knows it). The processes live as long as
the session of each pytest-xdist worker, on ports of its own; a start takes half a second, and each test begins with no
channel and every phone registered. `ITGRIX_LAB_ASTERISK=16` takes the other version. The roots (640 MB each) are built
on first need, or by `python -m tests.lab build [--version 22|16]`. Whole calls of every kind are in scenes/, each with
the truth that the connector must tell of it (truth.py). `python -m tests.lab record --into DIRECTORY [--version 22|16]
[--cel] [SCENE ...]` records them as traces; with `--golden` in place of `--into` pruned, beside the tests, in traces/.

Whoever: `lab.phone(101..106)` (plain dialplan), `lab.phone(201..206)` (FreePBX-style), `lab.client([number])`;
`lab.phone(107)` is chan_sip's, on Asterisk 16 alone; `lab.client("anonymous")` hides the number.
They do: `calls(number)`, `answers()`, `rejects(486|603|480|404|403|503...)`, `hangs_up([leg])`, `presses("1")`.
A phone also: `goes_offline()`, `comes_online()`, `forwards(to)` (302), `holds()`, `resumes()`; `transfers(to)` (REFER),
`consults(to)` and `hands_over()` (REFER with Replaces), `transfers_by_code(to)` (##), `consults_by_code(to)` (*2, then
`hangs_up()`); `parks()` (REFER), `parks_by_code()` (#72), both return the space to dial, `parks("60")` is for three
seconds; `calls("*8")` picks up, `calls("*45")` logs 101 in as the agent 1001, `calls("501")` listens to 101.
Ignoring a call is doing nothing; who is answered speaks (a tone). `lab.click_to_call(101, number)` has the PBX
originate.
Awaited: `rings()`, `hears_ringing()`, `is_answered()` (a menu or queue counts), `talks([to=party])` (bridged in PBX,
Local channels looked through), `is_hung_up()` → hangup cause, `lab.quiet()`, `lab.only_left(phone)`,
`lab.speaks_to_mailbox(101)`. Each takes `within=` seconds (8) and raises StepFailedError, which shows what both sides
saw last. `answers` and `rejects` wait for the ring themselves; `answers` returns before the PBX has bridged, `talks`
after. `lab.passes(seconds)` lets a talk last.
The PBX: `await lab.pbx_dies()` (kill -9), `await lab.pbx_returns()`; `async with lab.cel():` CEL over AMI and into
SQLite; `async with lab.record(path):` a trace of what the daemon's user is told. CDR and, while on, CEL rows are in the
tables `cdr` and `cel` of `lab.pair.pbx.folder / "log/master.db"`, with FreePBX's columns.

Numbers of the plain side, called through either trunk (NN = 01..06 → phones 101..106)
    49577701NN  the phone
    49577702NN  the phone, 3 s only
    49577703NN  the phone, recorded
    49577704NN  the phone 3 s, then its owner's mobile, +799900001NN by the trunk
    49577705NN  the phone and the mobile at once
    4957770860  led on to +79998600860 by trunk2
    4957770870  101, the caller's name in Windows-1251; ...871 no text at all; ...880 by a Local channel of odd name
    +7495..., 8495..., or no DID at all: 101 too
    4957770600  ring group of 101, 102, 103; ...602 the same for 3 s; ...603 of Local channels to 101, 102
    4957770601  hunt: 101, then 102, 3 s each
    4957770700  queue of the devices 101, 102, 103; ...701 of Local/n members; ...702 one by one, 3 s each;
                ...703 of Local members that optimise away; ...704 of 102, 103; ...705 rings 101 for 2 s, then rests;
                ...708 of the agent 1001; ...709 as 700, but for 4 s
    4957770800  menu: 1 → 101, 2 → 600, 7 → queue 700, 9 bye; ...801 one short round, 1 → 101 for 3 s and back
    4957770850  101 for 3 s, then voicemail; ...851 voicemail at once
    4957770900  conference
    4957773XXX  XXX at the other PBX
    4957770997  congestion; ...998 busy; ...999 unallocated
Numbers of the FreePBX side
    49588802NN  phone 2NN (206 has voicemail after 3 s); 49588812NN the same recorded
    4958880600  ring group of the devices 201, 202, 203; ...601 of Local/n channels, recorded
    4958880650  follow-me of 204 with the mobile +79990000204
    4958880750  queue of Local/n members 201, 202, 203, recorded
    4958880800  menu: 1 → 201, 2 → 600, 3 → queue
Phones dial extensions and 600.., 700.., 800, 850, 900; 61N (10N for 3 s, then back to who transferred); outside
numbers as they are or behind 9 (by trunk), behind 0 (by trunk2), behind 5 (by trunk, recorded), +79998600404 by a trunk
that is down; FreePBX phones as they are or behind 9, always recorded, by trunk2, then trunk; 70 and 71..79 parking; *8
and **101 pickup; behind 4 an extension of the other PBX (`Pair.joins` lays the trunk) or a number that it calls;
in a call ## blind transfer, *2 attended, #72 park.

For the daemon under test: AMI at `127.0.0.1`, port `lab.pair.pbx.ports.ami`, user `itgrix`, secret `itgrix-secret` (a
production user's rights). Recordings: Asterisk names paths under `lab.pair.pbx.monitor`, which really are under
`lab.pair.pbx.outside(lab.pair.pbx.monitor)`; map the one to the other. What the PBX told is in `lab.seen.pbx_events`;
`await lab.seen.event("Hangup", within=5, Channel=...)` waits for one more.
"""
