"""Every command, as a process of its own."""

import json
import re
import signal
import socket
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge import __version__
from bridge.cli import COMMANDS, PROG
from tests.system.processes import ANY, Running, bridge, run, started, wait_for

NAMES = [
    *(command.name for command in COMMANDS),
    "watch",
    "publish",
    "record",
    "streams",
    "verify",
    "doctor",
    "version",
]
NOWHERE = "127.0.0.1:9"
"""The discard port, where nobody listens."""

POSITION = re.compile(r"[a-z0-9]{8}-[0-9]+")


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with bridge("demo", "--listen", ANY, "--grpc-listen", ANY, "--blocks-per-second", "10") as running:
        yield running


def updates(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def one_sentence(result, code: int = 1) -> str:
    """Return the sentence on stderr of a command that failed as it should."""
    assert result.returncode == code, result
    sentence = result.stderr.removeprefix(f"{PROG}: ").rstrip("\n")
    assert result.stderr == f"{PROG}: {sentence}\n"
    assert "\n" not in sentence
    return sentence


# Help, version, configuration


@pytest.mark.parametrize("name", NAMES)
def test_help(name):
    result = run(name, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: {PROG} {name} ")


def test_version():
    assert run("version").stdout == f"{PROG} {__version__}\n"


def test_print_config_is_read_by_check_config(tmp_path):
    config = tmp_path / "bridge.toml"
    config.write_text(run("print-config", "--seed", "7").stdout)
    assert tomllib.loads(config.read_text())["state"]["seed"] == 7
    result = run("check-config", "--config", str(config))
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


# Servers: the ready line


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (("state", "--source", "simulated", "--listen", ANY), ["grpc"]),
        (("sidecar", "--upstream", NOWHERE, "--listen", ANY), ["http", "websocket"]),
        (("up", "--source", "none", "--listen", ANY, "--grpc-listen", ANY), ["http", "websocket", "grpc"]),
        (("up", "--source", "none", "--listen", ANY, "--grpc-listen", "off"), ["http", "websocket"]),
    ],
    ids=["state", "sidecar", "up", "up without gRPC"],
)
def test_a_server_says_in_one_line_where_it_listens(arguments, kinds):
    with bridge(*arguments) as running:
        assert list(running.addresses) == kinds
        for address in running.addresses.values():
            host, port = re.fullmatch(r"(?:\w+://)?([0-9.]+):([0-9]+)(?:/ws)?", address).groups()
            with socket.create_connection((host, int(port)), timeout=5):
                assert int(port)
        assert running.end() == 0
        assert len(running.lines) == 1


def test_the_demo_says_it_too(demo):
    assert list(demo.addresses) == ["http", "websocket", "grpc"]
    assert len(demo.lines) == 1


def test_unix_sockets(tmp_path):
    http, grpc = f"unix:{tmp_path}/http.sock", f"unix:{tmp_path}/grpc.sock"
    arguments = ("up", "--source", "none", "--ingest", "--listen", http, "--grpc-listen", grpc)
    with bridge(*arguments) as running:
        assert running.grpc == grpc
        assert running.http == f"http+unix:{tmp_path}/http.sock"
        assert run("publish", "--upstream", grpc, "--stream", "s", "--type", "t", "--data", "{}").returncode == 0
        assert running.end() == 0
    with bridge(*arguments) as running:  # what the one before left does not stand in the way
        assert run("streams", "--upstream", grpc).returncode == 0


# Servers: what cannot start


@contextmanager
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def taken_path(folder: Path) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/taken.sock")
        server.listen()
        yield f"unix:{folder}/taken.sock"


HTTP = ("sidecar", "--upstream", NOWHERE, "--listen")
GRPC = ("state", "--source", "simulated", "--listen")
BOTH = ("up", "--source", "none", "--listen", ANY, "--grpc-listen")


@pytest.mark.parametrize("arguments", [HTTP, GRPC, BOTH], ids=["HTTP", "gRPC", "both"])
@pytest.mark.parametrize("kind", ["port", "path"])
def test_an_address_that_is_taken(arguments, kind, tmp_path):
    with taken_port() if kind == "port" else taken_path(tmp_path) as address:
        assert one_sentence(run(*arguments, address)) == f"{address} is taken: another process listens there"
        if kind == "path":
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address.removeprefix("unix:"))  # whoever has it keeps it


@pytest.mark.parametrize("arguments", [HTTP, GRPC], ids=["HTTP", "gRPC"])
@pytest.mark.parametrize("address", ["192.0.2.1:5000", "unix:/nonexistent/bridge.sock"])
def test_an_address_that_cannot_be_listened_on(arguments, address):
    assert one_sentence(run(*arguments, address)).startswith(f"cannot listen on {address}")


def test_wrong_settings_are_told_all_at_once():
    arguments = ("--listen", "nowhere", "--history-count", "0", "--tokn", "s3cret", "--drain-seconds", "-1")
    result = run("sidecar", *arguments, THEBLOCK_BRIDGE_LOG_LEVEL="loud")
    assert (result.returncode, result.stdout) == (2, "")
    first, *errors = result.stderr.splitlines()
    assert first == f"{PROG}: 5 errors:"
    for error, name in zip(
        sorted(errors), ["drain_seconds", "flag --tokn", "history_count", "listen", "log_level"], strict=True
    ):
        assert error.startswith(f"  {name} ")


def test_a_recording_that_is_none(tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("hello\n")
    result = run("state", "--source", "recording", "--recording", str(file), "--listen", ANY)
    assert one_sentence(result).startswith(f"{file} is no recording")


# streams


def test_streams(demo):
    first, *rows = run("streams", "--upstream", demo.grpc).stdout.splitlines()
    assert first.split() == ["STREAM", "TYPE", "DELIVERY", "KEYED", "OLDEST", "NEWEST", "MESSAGE"]
    table = {row.split()[0]: row.split()[1:] for row in rows}
    assert table["block_updates"][:3] == ["block_update", "every", "no"]
    assert table["account"][:3] == ["account_update", "every", "yes"]
    assert POSITION.fullmatch(table["block_updates"][4])
    assert table["metrics"][5] == "theblock.state.v1.MetricsUpdate"


@pytest.mark.parametrize(
    "arguments",
    [
        ("streams",),
        ("publish", "--stream", "s", "--type", "t", "--data", "{}"),
        ("record", "--output", "FOLDER/some.recording"),
    ],
    ids=["streams", "publish", "record"],
)
def test_no_state_service(arguments, tmp_path):
    arguments = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    result = run(*arguments, "--upstream", NOWHERE)
    assert one_sentence(result) == f"no state service answers at {NOWHERE}"
    assert (result.stdout, list(tmp_path.iterdir())) == ("", [])


# publish


def publish(demo: Running, stream: str, data: str, *more: str, text: str = ""):
    common = ("--upstream", demo.grpc, "--stream", stream, "--type", f"{stream}_update")
    return run("publish", *common, "--data", data, *more, text=text)


def seqs(text: str) -> list[int]:
    """Return the seqs of the positions that were printed."""
    assert all(POSITION.fullmatch(line) for line in text.splitlines())
    return [int(line.partition("-")[2]) for line in text.splitlines()]


def test_publish(demo):
    result = publish(demo, "weather", '{"celsius": 21}')
    assert (result.returncode, result.stderr, seqs(result.stdout)) == (0, "", [1])
    position = result.stdout.strip()
    result = publish(demo, "weather", "-", text='{"celsius": 22}\n\n  {"celsius": 23}')
    assert (result.returncode, result.stderr, seqs(result.stdout)) == (0, "", [2, 3])
    shown = run("watch", demo.http, "weather", "--json", "--since", position, "--count", "2")
    assert [update["data"] for update in updates(shown.stdout)] == [{"celsius": 22}, {"celsius": 23}]


def test_publish_with_keys(demo):
    for key in ("a", "b", "a"):
        assert publish(demo, "by_key", "{}", "--key", key).returncode == 0
    shown = updates(run("watch", demo.http, "by_key", "--json", "--last", "3", "--count", "3").stdout)
    assert [(update["key"], update["prev"]) for update in shown] == [("a", 0), ("b", 0), ("a", 1)]


@pytest.mark.parametrize(
    ("stream", "data", "sentence"),
    [
        ("refused", "{", "not JSON"),
        ("refused", "[1]", "not a JSON object"),
        ("refused", '{"a":1,"a":2}', "not JSON|twice|duplicate"),
        ("block_updates", "{}", "stream 'block_updates' is declared"),
        ("Upper", "{}", "ill-formed"),
    ],
)
def test_publish_refused(demo, stream, data, sentence):
    result = publish(demo, stream, data)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(f"refused: .*({sentence}).*\n", result.stderr), result.stderr


def test_a_refused_line_does_not_keep_the_others_back(demo):
    result = publish(demo, "lines", "-", text='{"n":1}\nnonsense\n{"n":2}\n')
    assert (result.returncode, seqs(result.stdout)) == (1, [1, 2])
    assert result.stderr.startswith("refused: ")
    assert result.stderr.count("\n") == 1


def test_publish_acknowledges_each_line_as_it_comes_and_ends_with_ctrl_c(demo):
    arguments = ("--stream", "typed", "--type", "typed_update", "--data", "-")
    with started("publish", "--upstream", demo.grpc, *arguments) as running:
        for number in (1, 2):
            running.send('{"n":1}\n')
            running.wait_for(lambda number=number: len(running.lines) == number, "an acknowledgement")
        assert running.end(signal.SIGINT) == 130
        assert (seqs(running.stdout), running.stderr) == ([1, 2], "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_publish_tells_in_a_sentence_that_the_state_service_has_gone(number):
    with bridge("state", "--source", "none", "--ingest", "--listen", ANY) as state:
        arguments = ("--stream", "typed", "--type", "typed_update", "--data", "-")
        with started("publish", "--upstream", state.grpc, *arguments) as running:
            running.send("{}\n")
            running.wait_for(lambda: running.lines, "an acknowledgement")
            state.process.send_signal(number)
            state.process.wait(10)
            running.send("{}\n")
            assert running.process.wait(15) == 1
            assert re.fullmatch(f"{PROG}: [^\n]*{re.escape(state.grpc)}[^\n]*\n", running.stderr), running.stderr


def test_publish_refuses_an_endless_line(demo):
    assert one_sentence(publish(demo, "long", "-", text="x" * (6 << 20))).startswith("a line of standard input")


def test_publish_without_ingest():
    with bridge("state", "--source", "none", "--listen", ANY) as state:
        assert "is ingest on?" in one_sentence(publish(state, "s", "{}"))


# record, and playing it


def heads(running: Running) -> dict[str, int]:
    """Return the seq of the newest update of each stream."""
    rows = run("streams", "--upstream", running.grpc).stdout.splitlines()[1:]
    return {row.split()[0]: int(row.split()[5].partition("-")[2]) for row in rows}


def history(running: Running, stream: str) -> list[dict]:
    """Return the data of every update of a stream so far."""
    count = str(heads(running)[stream])
    return [
        update["data"]
        for update in updates(run("watch", running.http, stream, "--json", "--last", "1000", "--count", count).stdout)
    ]


def health(running: Running) -> dict:
    with urllib.request.urlopen(f"{running.http}/health", timeout=5) as response:
        return json.load(response)


def test_what_was_recorded_is_played_with_the_same_payloads(demo, tmp_path):
    file = tmp_path / "chain.recording"
    with started("record", "--upstream", demo.grpc, "--output", str(file)) as recorder:
        recorder.wait_for(lambda: recorder.lines, "recording")
        run("watch", demo.http, "block_updates", "--count", "10")
        assert (recorder.end(signal.SIGINT), recorder.stderr) == (0, "")
        count = int(re.fullmatch("([0-9]+) updates recorded", recorder.lines[-1]).group(1))
    play = ("--source", "recording", "--recording", str(file), "--recording-speed", "100")
    with bridge("up", *play, "--listen", ANY, "--grpc-listen", ANY) as player:
        wait_for(lambda: health(player)["upstream"]["detail"] == "the recording has ended", "the end of the recording")
        assert sum(heads(player).values()) == count
        played, published = history(player, "block_updates"), history(demo, "block_updates")
    first = published.index(played[0])
    assert len(played) > 5
    assert played == published[first : first + len(played)]


def test_record_overwrites_nothing(demo, tmp_path):
    file = tmp_path / "chain.recording"
    file.write_text("mine\n")
    assert one_sentence(run("record", "--upstream", demo.grpc, "--output", str(file))).startswith(f"{file} exists")
    assert file.read_text() == "mine\n"


def test_record_for_a_while(demo, tmp_path):
    result = run(*("record", "--upstream", demo.grpc, "--output", str(tmp_path / "r.gz"), "--duration-seconds", "0.3"))
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch("[1-9][0-9]* updates recorded", result.stdout.splitlines()[-1])


# watch


def test_watch_live(demo):
    result = run("watch", demo.http, "block_updates", "nothing_yet", "--count", "3")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert re.fullmatch("watching block_updates from [a-z0-9]{8}-[0-9]+", lines[0])
    assert re.fullmatch("watching nothing_yet from [a-z0-9]{8}-0 \\(not declared yet.*\\)", lines[1])
    assert lines[2].startswith("*block_updates #")
    assert all(re.search(" height=[0-9]+ ", line) for line in lines[2:])
    # Heights may go back, where a block is replaced.
    seqs = [int(re.search("#([0-9]+) ", line).group(1)) for line in lines[2:]]
    assert seqs == list(range(seqs[0], seqs[0] + 3))


@pytest.mark.parametrize("output", ["--raw", "--json"])
def test_watch_for_programs(demo, output):
    result = run("watch", demo.http, "block_updates", output, "--last", "3", "--count", "5")
    assert (result.returncode, result.stderr) == (0, "")
    shown = updates(result.stdout)
    assert [update["seq"] for update in shown] == list(range(shown[0]["seq"], shown[0]["seq"] + 5))
    assert {update["type"] for update in shown} == {"block_update"}


def test_watch_every_stream(demo):
    shown = updates(run("watch", demo.http, "--json", "--last", "2", "--count", "40").stdout)
    assert {"block_updates", "metrics", "network"} <= {update["stream"] for update in shown}
    assert not any("snapshot" in update for update in shown if update["stream"] == "block_updates")


def test_watch_since_is_a_position_on_one_stream(demo):
    result = run("watch", demo.http, "block_updates", "metrics", "--since", "abcdefgh-1")
    assert "position on one stream" in one_sentence(result, code=2)


def test_watch_ends_with_ctrl_c(demo):
    with started("watch", demo.http, "block_updates", "--json") as running:
        running.wait_for(lambda: len(running.lines) > 2, "some updates")
        assert running.end(signal.SIGINT) in (0, 130)
        assert running.stderr == ""
        assert updates("\n".join(running.lines))


@pytest.mark.parametrize("url", [f"http://{NOWHERE}", "DEMO/wrong", "http://GRPC"])
def test_watch_tells_in_a_sentence_why_it_waits(demo, url):
    url = url.replace("DEMO", demo.http).replace("GRPC", demo.grpc)
    with started("watch", url) as running:
        running.wait_for(lambda: "\n" in running.stderr, "a sentence")
        assert re.match(r"[^\n]{10,150}; next try in [0-9.]+ s\n", running.stderr), running.stderr
        assert running.end(signal.SIGINT) in (0, 130)


def test_watch_refused(demo):
    assert one_sentence(run("watch", demo.http, "Upper")).startswith("the sidecar refuses state_stream.subscribe: ")
