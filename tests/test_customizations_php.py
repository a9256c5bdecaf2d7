"""Files of the vendor's kind under the real PHP: over FastCGI, and spawned where there is no php-cgi."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import Customizer, Verdict
from tests.hook_files import demand_php, ended, number_in, params, php, running, runs, until

pytestmark = pytest.mark.usefixtures("sapi")

HOOK: Hook = "process_client_phone"
OK = "return array('state' => 'success', 'data' => array('phone' => '123'));"
RETURN = "return array('state' => 'success', 'data' => array('phone' => $phone));"


@pytest.fixture(params=["php-cgi", "php"])
def sapi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which PHP there is on this machine."""
    demand_php("php-cgi", "php")
    name: str = request.param
    if name == "php":
        found = {"php-cgi": None, "php": shutil.which("php")}
        monkeypatch.setattr("shutil.which", lambda program, **_: found[program])
    return name


async def asked(directory: Path, body: str, hook: Hook = HOOK, **changes: Any) -> Verdict:
    """What becomes of one call of a file with `body`."""
    async with running(directory, {f"{hook}.php": php(body)}) as customizer:
        return await customizer.call(hook, params(hook, **changes), call_id="1.1")


class TestVendorFiles:
    async def test_process_client_phone(self, tmp_path: Path) -> None:
        verdict = await asked(tmp_path, """
            $phone = '8' . substr($params['phone'], -10);
            if ($params['call_full']['channel']['type'] !== 'incoming' || $params['call_stage'] !== 'call_ended') {
                $phone = 'wrong input';
            }
            return array(
                'state' => 'success',
                'data' => array('phone' => $phone),
            );
            """)  # fmt: skip
        assert verdict.data == {"phone": "89991234567"}
        assert verdict.failure is None

    async def test_the_changed_input_may_be_returned(self, tmp_path: Path) -> None:
        body = "$params['phone'] = '123'; return array('state' => 'success', 'data' => $params);"
        assert (await asked(tmp_path, body)).data == {"phone": "123"}

    async def test_what_is_printed_goes_to_the_log(self, tmp_path: Path) -> None:
        verdict = await asked(tmp_path, f"""?>before<?php
            echo "печать"; print_r(array(1)); error_log('to the error log'); $undefined['x'] = $missing;
            fwrite(STDOUT, 'out'); fwrite(STDERR, 'err'); $phone = '123' . fread(STDIN, 10);
            {RETURN}""")  # fmt: skip
        assert verdict.data == {"phone": "123"}
        for text in ("before", "печать", "Array", "to the error log", "Undefined variable $missing", "out", "err"):
            assert text in verdict.printed
        assert "Content-type" not in verdict.printed

    async def test_functions_see_the_input_as_a_global(self, tmp_path: Path) -> None:
        body = f"function phone() {{ global $params; return substr($params['phone'], -3); }} $phone = phone(); {RETURN}"
        assert (await asked(tmp_path, body)).data == {"phone": "567"}

    async def test_nothing_of_a_call_is_left_for_the_next(self, tmp_path: Path) -> None:
        body = f"""
            function once() {{ static $n = 0; return ++$n; }}
            class Once {{ public static $n = 0; }}
            Once::$n++;
            if (defined('SEEN') || isset($GLOBALS['seen']) || getenv('SEEN') || ini_get('precision') == 3) exit('leak');
            define('SEEN', 1); $GLOBALS['seen'] = 1; putenv('SEEN=1'); ini_set('precision', 3); chdir('/');
            $phone = once() . Once::$n . '0';
            {RETURN}"""
        async with running(tmp_path, {f"{HOOK}.php": php(body)}, php_workers=1) as customizer:
            for _ in range(3):
                verdict = await customizer.call(HOOK, params(HOOK))
                assert (verdict.data, verdict.failure) == ({"phone": "110"}, None)

    async def test_neighbours_are_required_from_the_files_own_directory(self, tmp_path: Path) -> None:
        (tmp_path / "phones.php").write_text("<?php function short($p) { return substr($p, -4); }")
        body = f"""
            require_once 'phones.php'; require_once __DIR__ . '/phones.php';
            $phone = getcwd() === __DIR__ ? short($params['phone']) : 'elsewhere';
            {RETURN}"""
        assert (await asked(tmp_path, body)).data == {"phone": "4567"}

    async def test_the_wrapped_input_of_old_versions(self, tmp_path: Path) -> None:
        body = (
            "$params['params'][ \"phone\" ] = '123'; return array('state' => 'success', 'data' => $params['params']);"
        )
        assert (await asked(tmp_path, body)).data == {"phone": "123"}
        body = "$params['params']['phone'] = '456'; return array('state' => 'success', 'data' => $params);"
        assert (await asked(tmp_path, body)).data == {"phone": "456"}

    async def test_a_comment_about_the_wrapped_input_wraps_nothing(self, tmp_path: Path) -> None:
        body = f"// was $params['params']['phone']\n$phone = $params['phone']; {RETURN}"
        assert (await asked(tmp_path, body)).data == {"phone": "+79991234567"}

    async def test_an_open_output_buffer_is_no_obstacle(self, tmp_path: Path) -> None:
        body = "ob_start(); ob_start(function ($text) { return strtoupper($text); }); echo 'kept'; $phone = '123';"
        verdict = await asked(tmp_path, f"{body} {RETURN}")
        assert (verdict.data, verdict.printed) == ({"phone": "123"}, "KEPT")

    async def test_an_edited_file_takes_effect_at_the_next_call(self, tmp_path: Path) -> None:
        neighbour = tmp_path / "phones.php"
        neighbour.write_text("<?php $tail = '1';")
        files = {f"{HOOK}.php": php(f"include 'phones.php'; $phone = '11' . $tail; {RETURN}")}
        async with running(tmp_path, files, php_workers=1) as customizer:
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "111"}
            for path, old, new in ((tmp_path / f"{HOOK}.php", "'11'", "'22'"), (neighbour, "'1'", "'3'")):
                stamp = path.stat().st_mtime_ns
                path.write_text(path.read_text().replace(old, new))
                os.utime(path, ns=(stamp, stamp))
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "223"}

    async def test_empty_data_cancels(self, tmp_path: Path) -> None:
        verdict = await asked(tmp_path, "return array('state' => 'success', 'data' => array());", "post_registration")
        assert verdict.data == {}
        verdict = await asked(tmp_path, "return array('state' => 'success', 'data' => array());")
        assert verdict.cancelled

    async def test_large_input_arrives_whole(self, tmp_path: Path) -> None:
        body = f"$phone = strlen($params['call_full']['record']); {RETURN}"
        verdict = await asked(tmp_path, body, call_full={"record": "ж" * 500_000})
        assert verdict.data == {"phone": "1000000"}


class TestBadFiles:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("", "it returned nothing"),
            ("$params['phone'] = '1';", "it returned nothing"),
            ("return;", "it returned null"),
            ("return 'success';", "it returned text"),
            ("return array('phone' => '1');", "state: missing"),
            ("return array('state' => 'error', 'message' => 'no such client');", "not 'success': no such client"),
            ("return array('state' => 'success', 'data' => array('phone' => 'Ivan'));", "data.phone: no phone number"),
            ("echo 'bye'; exit;", "it ended by exit"),
            ("exit(3);", "it ended by exit"),
            ("die('no database');", "it ended by exit"),
            ("\n\nmissing_function();", "missing_function() (process_client_phone.php, line 4)"),
            ("throw new DomainException('wrong');", "DomainException: wrong (process_client_phone.php, line 2)"),
            ("\n$x = ;", "ParseError: syntax error"),
            ("function a() {} function a() {}", "Cannot redeclare a()"),
            ("require 'missing.php';", "missing.php"),
            ("trigger_error('enough', E_USER_ERROR);", "enough (process_client_phone.php, line 2)"),
            ("ini_set('memory_limit', '8M'); $x = str_repeat('x', 9000000);", "Allowed memory size"),
            ("function f() { f(); } ini_set('memory_limit', '16M'); f();", "Allowed memory size"),
            ("return array('state' => 'success', 'data' => array('x' => NAN));", "Inf and NaN"),
            ('return array("state" => "success", "data" => array("phone" => "\\xff"));', "Malformed UTF-8"),
            ("$a = 1; for ($i = 0; $i < 100; $i++) $a = array($a); return array('state' => 'success', 'data' => $a);",
             "deeper than 64 levels"),
            ("$a = array(); $a[0] = &$a; return $a;", "can't be written as JSON"),
            ("return array('state' => 'success', 'data' => array('x' => str_repeat('x', 1 << 20)));",
             "larger than 1048576 bytes"),
        ],
    )  # fmt: skip
    async def test_fail_in_words_and_the_unchanged_data_goes_on(self, tmp_path: Path, body: str, words: str) -> None:
        files = {f"{HOOK}.php": php(body), "need_registration.php": php(
            "return array('state' => 'success', 'data' => array('result' => false));")}  # fmt: skip
        async with running(tmp_path, files, php_workers=1) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure is not None
            assert words in verdict.failure
            assert verdict.data == {"phone": "+79991234567"}
            after = await customizer.call("need_registration", params("need_registration"))
            assert (after.data, after.failure) == ({"result": False}, None)

    async def test_fifty_megabytes_of_print_are_read_and_dropped(self, tmp_path: Path) -> None:
        verdict = await asked(
            tmp_path, f"for ($i = 0; $i < 50; $i++) echo str_repeat('x', 1 << 20); $phone = '123'; {RETURN}"
        )
        assert verdict.data == {"phone": "123"}
        assert len(verdict.printed) < 20_000
        assert verdict.printed.endswith("[52428800 bytes in all]")

    async def test_a_file_that_went_away_fails(self, tmp_path: Path) -> None:
        async with running(tmp_path, {f"{HOOK}.php": php("return 1;")}) as customizer:
            (tmp_path / f"{HOOK}.php").unlink()
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure == "process_client_phone.php can't be read: has it been removed?"

    async def test_no_php_at_all_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
        async with running(tmp_path, {f"{HOOK}.php": php("return 1;")}) as customizer:
            words = "there is no PHP on this machine: install php-cgi"
            assert (await customizer.call(HOOK, params(HOOK))).failure == words
            assert customizer.problems == (f"{tmp_path}/{HOOK}.php: {words}",)


class TestTime:
    @pytest.mark.parametrize("body", ["sleep(60);", "while (true);", "usleep(60e6);"])
    async def test_a_file_that_takes_too_long_is_killed(self, tmp_path: Path, body: str) -> None:
        stop = tmp_path / "stop"
        body = f"file_put_contents('pid', getmypid()); if (file_exists('stop')) {body} $phone = '123'; {RETURN}"
        async with running(tmp_path, {f"{HOOK}.php": php(body)}, timeout_s=0.4, php_workers=1) as customizer:
            stop.touch()
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure == "no answer within 0.4 s: killed, with all that it started"
            assert verdict.data == {"phone": "+79991234567"}
            assert 0.4 <= verdict.seconds < 1.5
            await ended(int((tmp_path / "pid").read_text()))
            stop.unlink()
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}
            record = customizer.status()["hooks"][HOOK]
            assert (record["calls"], record["failures"], record["timeouts"]) == (2, 1, 1)

    async def test_what_it_started_is_killed_with_it(self, tmp_path: Path) -> None:
        body = "exec('trap \"\" TERM HUP; echo $$ > child; sleep 60; sleep 60');"
        async with running(tmp_path, {f"{HOOK}.php": php(body)}, timeout_s=1.5) as customizer:
            call = asyncio.create_task(customizer.call(HOOK, params(HOOK)))
            child = await number_in(tmp_path / "child")
            assert runs(child)
            assert (await call).failure == "no answer within 1.5 s: killed, with all that it started"
            await ended(child)

    async def test_an_abandoned_call_leaves_nothing_behind(self, tmp_path: Path) -> None:
        body = "file_put_contents('pid', getmypid() . PHP_EOL); sleep(60);"
        async with running(tmp_path, {f"{HOOK}.php": php(body)}, timeout_s=30) as customizer:
            call = asyncio.create_task(customizer.call(HOOK, params(HOOK)))
            pid = await number_in(tmp_path / "pid")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await ended(pid)

    async def test_nobody_waits_for_the_workers_of_another_lane(self, tmp_path: Path) -> None:
        files = {
            "process_record_file_path.php": php("touch('converting'); sleep(60);"),
            "process_originate_params.php": php("touch('originating'); sleep(60);"),
            "customize_autodistribution.php": php(
                "return array('state' => 'success', 'data' => array('number' => '102'));"
            ),
            f"{HOOK}.php": php(f"$phone = '123'; {RETURN}"),
        }
        slow: tuple[Hook, ...] = ("process_record_file_path", "process_originate_params")
        async with running(
            tmp_path, files, php_workers=1, timeout_s=30, timeouts=dict.fromkeys(slow, 30)
        ) as customizer:
            calls = [asyncio.create_task(customizer.call(hook, params(hook))) for hook in slow]
            await until(lambda: (tmp_path / "converting").exists() and (tmp_path / "originating").exists())
            # A first call, which may have to wait for its process to start, is none to measure by.
            await customizer.call("customize_autodistribution", params("customize_autodistribution"))
            live = await customizer.call("customize_autodistribution", params("customize_autodistribution"))
            assert (live.data, live.failure) == ({"number": "102", "name": "Anna"}, None)
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}
            for call in calls:
                assert not call.done()
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


class TestEnvironment:
    async def test_our_secrets_are_not_in_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ITGRIX_SECRET", "kommo-token-77")
        monkeypatch.setenv("http_proxy", "http://user:proxy-password@proxy")
        body = f"echo json_encode(array(getenv(), $_ENV, $_SERVER)), getenv('PATH'), getenv('ITGRIX_SECRET'); {OK}"
        printed = (await asked(tmp_path, body)).printed
        assert "/usr/bin" in printed
        assert "kommo-token-77" not in printed
        assert "proxy-password" not in printed

    async def test_no_descriptor_of_ours_is_open_in_it(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.txt"
        secret.write_text("token")
        with secret.open():
            body = f"foreach (scandir('/proc/self/fd') as $fd) echo @readlink('/proc/self/fd/' . $fd), ' '; {OK}"
            printed = (await asked(tmp_path, body)).printed
        assert "socket:" in printed or "pipe:" in printed
        assert "secret.txt" not in printed


@pytest.fixture
async def lone(tmp_path: Path, sapi: str) -> AsyncIterator[Customizer]:
    """One waiting php-cgi and a file that tells its process."""
    if sapi != "php-cgi":
        pytest.fail("only php-cgi waits for calls")
    async with running(tmp_path, {f"{HOOK}.php": php(f"$phone = getmypid(); {RETURN}")}, php_workers=1) as customizer:
        yield customizer


@pytest.mark.parametrize("sapi", ["php-cgi"], indirect=True)
class TestWaitingProcess:
    async def test_serves_call_after_call(self, lone: Customizer) -> None:
        pids = {str((await lone.call(HOOK, params(HOOK))).data) for _ in range(600)}  # php-cgi's own limit is 500
        assert len(pids) == 1

    async def test_is_replaced_when_it_was_killed_between_calls(self, lone: Customizer) -> None:
        first = (await lone.call(HOOK, params(HOOK))).data
        assert first is not None
        os.kill(int(first["phone"]), 9)
        await ended(int(first["phone"]))
        seen = [await lone.call(HOOK, params(HOOK)) for _ in range(2)]
        assert seen[-1].failure is None
        assert seen[-1].data not in (first, None)

    async def test_that_dies_in_a_call_fails_that_call_alone(self, tmp_path: Path) -> None:
        body = f"if (file_exists('die')) {{ unlink('die'); exec('kill -9 ' . getmypid()); sleep(5); }} {OK}"
        (tmp_path / "die").touch()
        async with running(tmp_path, {f"{HOOK}.php": php(body)}, php_workers=1) as customizer:
            failed = await customizer.call(HOOK, params(HOOK))
            assert failed.failure == "the php-cgi process ended during the call (killed by signal 9)"
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}

    async def test_is_gone_when_all_is_stopped(self, lone: Customizer) -> None:
        data = (await lone.call(HOOK, params(HOOK))).data
        assert data is not None
        await lone.stop()
        await ended(int(data["phone"]))
        assert (await lone.call(HOOK, params(HOOK))).failure == "the customizations are being stopped"
