"""`theblock-bridge doctor` as a process of its own, beside real processes of the bridge."""

import asyncio
import json
import re
from contextlib import ExitStack
from itertools import pairwise

from bridge.doctor import CHECKS, Status
from bridge.doctor.ask import fetch
from bridge.doctor.checks import CHECK_ANSWERS
from bridge.doctor.targets import ANSWER_SECONDS, Targets, http_url, url_of
from bridge.settings import Address, UpSettings
from tests.doctor.rig import free_port, report_on
from tests.standin.chain import Chain
from tests.standin.node import StandinNode
from tests.system.processes import ANY, enter, run

NOWHERE = "127.0.0.1:9"
LINE = re.compile(r"(ok  |warn|FAIL|skip)  ([a-z]+): \S.*")


def doctor(*arguments: str, **variables: str):
    return asyncio.to_thread(run, "doctor", *arguments, **variables)


async def test_all_is_well():
    chain = Chain()
    chain.mine(130)
    with ExitStack() as stack:
        async with StandinNode(chain, blocks_per_second=5) as node:
            up = await enter(stack, "up", "--node-url", node.url, "--listen", ANY, "--grpc-listen", ANY)
            while b'"status": "ok"' not in (await fetch(f"{up.http}/health")).body:
                await asyncio.sleep(0.05)
            where = ("--node-url", node.url, "--upstream", up.grpc, "--url", up.websocket)
            done = await doctor(*where, "--proxy-idle-seconds", "0.1")
    matches = [LINE.fullmatch(line) for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [match and match[2] for match in matches] == [check.name for check in CHECKS]
    assert "FAIL" not in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


async def test_nothing_is_well():
    port = free_port()
    done = await doctor("--node-url", f"http://{NOWHERE}", "--upstream", NOWHERE, "--url", f"http://127.0.0.1:{port}")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    failed = [(line, after) for line, after in pairwise(lines) if line.startswith("FAIL")]
    assert [LINE.fullmatch(line)[2] for line, _ in failed] == ["node", "service", "sidecar"]
    assert all(after.startswith("      do: ") for _, after in failed)


async def test_json_for_programs():
    done = await doctor("--json", "--node-url", "off", "--upstream", NOWHERE, "--url", "off")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["healthy"] is False
    assert [row["name"] for row in report["checks"]] == [check.name for check in CHECKS]
    by_name = {row["name"]: row for row in report["checks"]}
    assert by_name["node"]["status"] == by_name["sidecar"]["status"] == "skip"
    assert by_name["service"]["status"] == "fail"
    assert "nothing listens there" in by_name["service"]["says"]
    assert by_name["service"]["do"]


async def test_addresses_come_from_the_settings_and_the_token_stays_secret(tmp_path):
    token = tmp_path / "token"
    token.write_text("hush-hush\n")
    config = tmp_path / "bridge.toml"
    async with StandinNode(energy_token="hush-hush") as node:
        lines = ["[node]", f'node_url = "{node.url}"', f'node_token_file = "{token}"', "[sidecar]", 'listen = "[::]:9"']
        config.write_text("\n".join(lines))
        done = await doctor("--config", str(config), THEBLOCK_BRIDGE_UPSTREAM=NOWHERE)
    assert f"ok    node: the node at {node.url.removeprefix('http://')} answers" in done.stdout
    assert "ok    methods" in done.stdout
    assert f"no connection to a state service at {NOWHERE}" in done.stdout
    assert "no connection to a sidecar at http://[::1]:9" in done.stdout
    assert "hush-hush" not in done.stdout + done.stderr


async def test_a_token_that_is_none(tmp_path):
    token = tmp_path / "token"
    token.write_text("two\nlines")
    done = await doctor("--node-token-file", str(token))
    assert (done.returncode, done.stdout) == (1, "")
    assert "node_token_file" in done.stderr
    assert "two" not in done.stderr


async def test_bad_usage():
    done = await doctor("--node-url", "ftp://x", "--nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "node_url" in done.stderr
    assert "flag --nonsense is unknown" in done.stderr
    done = await doctor("--url", "http://user:password@127.0.0.1:5000")
    assert done.returncode == 2
    assert "must not carry a password" in done.stderr


# What it looks at, and for how long


def test_addresses_of_sidecars():
    assert http_url("ws://127.0.0.1:5000/ws") == http_url("http://127.0.0.1:5000/") == "http://127.0.0.1:5000"
    assert http_url("wss://example.org/bridge/ws") == "https://example.org/bridge"
    assert url_of(Address("0.0.0.0", 5000)) == "http://127.0.0.1:5000"
    assert url_of(Address("::", 5000)) == "http://[::1]:5000"
    assert url_of(Address("127.0.0.1", 0)) is None
    assert url_of(Address(path="/run/sidecar")) is None


def test_what_is_off_is_left_out():
    targets = Targets.of(UpSettings(), ("node_url", "upstream"), "")
    assert (targets.node, targets.upstream, targets.url) == (None, (), None)
    targets = Targets.of(UpSettings())
    assert (targets.node, targets.url) == (UpSettings().state.node, "http://127.0.0.1:5000")


def test_it_takes_at_most_twenty_seconds():
    needs = {check.name: check.needs for check in CHECKS}
    depth = 0
    for name in needs:
        chain = [name]
        while needs[chain[-1]]:
            chain.append(needs[chain[-1]])
        depth = max(depth, len(chain))
    assert depth * CHECK_ANSWERS * ANSWER_SECONDS <= 20


async def test_a_check_that_is_not_over_in_time(monkeypatch):
    monkeypatch.setattr("bridge.doctor.checks.CHECK_ANSWERS", 0.0)
    report = await report_on(upstream=(Address("127.0.0.1", free_port()),), answer_seconds=0.5)
    assert "not over within" in report["service"].says
    assert report["service"].finding.status is Status.FAIL
    assert report["source"].says == "not looked at, since the check service did not succeed"
