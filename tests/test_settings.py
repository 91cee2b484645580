"""Settings: documented, read in layers, checked all at once, and never telling a secret."""

import dataclasses
import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.settings import (
    Address,
    Limits,
    NodeSettings,
    SettingsError,
    SidecarSettings,
    StateSettings,
    UpSettings,
    load,
)
from bridge.settings.kinds import PEER, SWITCH, number, url, whole
from bridge.settings.load import CONFIG_LIMIT_BYTES, Given, resolve
from bridge.settings.table import SETTINGS, TABLES, UNITS, Setting, settings_of

EVERY = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def errors_of(table=UpSettings, environment=None, config=None, given=()):
    with pytest.raises(SettingsError) as caught:
        load(table, environment or {}, config, given)
    return list(caught.value.errors)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a TOML file and returns its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "bridge.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# The table


@EVERY
def test_a_setting_is_documented(setting: Setting):
    assert setting.doc[0].isupper()
    assert setting.doc.endswith(".")
    assert setting.kind.allowed
    assert setting.kind.metavar.isascii()
    assert setting.table in TABLES.values()


@EVERY
def test_the_default_of_a_setting_is_allowed_and_reads_back_from_its_text(setting: Setting):
    shown = setting.show(setting.default)
    assert setting.kind.read(shown) == setting.default
    assert load(UpSettings, {setting.variable: shown}) == UpSettings()


def test_every_field_is_a_setting_with_a_name_of_its_own():
    entries = [entry for table in TABLES for entry in dataclasses.fields(table) if entry.default_factory not in TABLES]
    assert len(entries) == len(SETTINGS)
    assert {setting.name for setting in settings_of(UpSettings)} == set(SETTINGS)


def test_names_end_in_their_units():
    for name, setting in SETTINGS.items():
        if any(f"_{word}" in name for word in ("ms", "seconds", "bytes")):
            assert name.endswith(tuple(UNITS)), name
        if isinstance(setting.default, float):
            assert name.endswith(("_seconds", "_per_second", "_speed", "_percent")), name


def test_nothing_listens_beyond_loopback_by_default():
    for address in (StateSettings().grpc_listen, SidecarSettings().listen):
        assert address is not None
        assert ipaddress.ip_address(address.host).is_loopback


def test_limits_are_those_of_the_protocol():
    assert dataclasses.asdict(Limits()) == {
        "message_bytes": 65536,
        "depth": 32,
        "batch": 50,
        "subscriptions": 256,
        "undeclared": 16,
        "last": 1000,
        "page": 1000,
        "where_terms": 16,
        "fields": 64,
        "bad_messages": 20,
        "sse_streams": 16,
        "rpc_body_bytes": 1048576,
    }


# Layers


@pytest.mark.parametrize("table", [StateSettings, SidecarSettings, UpSettings])
def test_without_anything_given_settings_are_the_defaults(table):
    assert load(table, {}) == table()


def test_the_command_line_overrides_the_environment_which_overrides_the_file(write):
    config = write("[history]\nhistory_count = 1\nhistory_bytes = 100001\nkey_limit = 3\n")
    environment = {"THEBLOCK_BRIDGE_HISTORY_COUNT": "11", "THEBLOCK_BRIDGE_HISTORY_BYTES": "100011"}
    flags = [Given("history_count", "111", "--history-count")]
    resolved = resolve(StateSettings, environment, config, flags)
    assert {
        name: (resolved[name].value, resolved[name].origin)
        for name in ("history_count", "history_bytes", "key_limit", "history_age_seconds")
    } == {
        "history_count": (111, "--history-count"),
        "history_bytes": (100011, "THEBLOCK_BRIDGE_HISTORY_BYTES"),
        "key_limit": (3, f"{config} [history]"),
        "history_age_seconds": (3600.0, "default"),
    }


def test_values_reach_the_field_of_their_class(write):
    config = write(
        """
        [state]
        source = "simulated"
        ingest = true
        grpc_listen = "off"
        blocks_per_second = 5
        [node]
        node_methods = ["governor.status", "analytics"]
        [sidecar]
        listen = "[::1]:0"
        upstream = "unix:/run/bridge.sock"
        allowed_origins = "https://a.example, https://b.example:8443"
        [websocket]
        slice_writes = 7
        [limits]
        limit_depth = 8
        [history]
        history_count = 9
        [log]
        log_format = "json"
        """
    )
    settings = load(UpSettings, {}, config)
    assert settings.state.source == "simulated"
    assert settings.state.ingest is True
    assert settings.state.grpc_listen is None
    assert settings.state.blocks_per_second == 5.0
    assert settings.state.node.node_methods == ("governor.status", "analytics")
    assert settings.sidecar.listen == Address("::1", 0)
    assert settings.sidecar.upstream == (Address(path="/run/bridge.sock"),)
    assert settings.sidecar.allowed_origins == ("https://a.example", "https://b.example:8443")
    assert settings.sidecar.websocket.slice_writes == 7
    assert settings.sidecar.limits.depth == 8
    assert settings.state.history == settings.sidecar.history
    assert settings.state.history.history_count == 9
    assert settings.state.log.log_format == settings.sidecar.log.log_format == "json"


def test_the_environment_may_name_the_file(write):
    config = write("[log]\nlog_level = 'debug'\n")
    assert load(StateSettings, {"THEBLOCK_BRIDGE_CONFIG": str(config)}).log.log_level == "debug"
    assert load(StateSettings, {"THEBLOCK_BRIDGE_CONFIG": ""}).log.log_level == "info"


def test_a_command_checks_the_values_of_its_own_settings_only(write):
    config = write("[node]\nnode_token_file = '/nonexistent'\n[log]\nlog_level = 'debug'\n")
    assert load(SidecarSettings, {}, config).log.log_level == "debug"
    assert len(errors_of(StateSettings, config=config)) == 1


# Errors


def test_every_error_is_told_at_once_with_what_is_allowed_and_where_it_came_from(write):
    config = write("[node]\npoll_interval_ms = 50\nbackfil_blocks = 3\n[loog]\nlog_level = 'debug'\n")
    environment = {"THEBLOCK_BRIDGE_LOG_FORMAT": "xml", "THEBLOCK_BRIDGE_LISTN": "127.0.0.1:1"}
    flags = [Given("listen", ":5000", "--listen"), Given("ingest", "maybe", "--ingest")]
    assert errors_of(UpSettings, environment, config, flags) == [
        f"poll_interval_ms = 50 from {config} [node] must be a whole number from 100 to 60000 milliseconds",
        f"{config} [node]: setting backfil_blocks is unknown; did you mean backfill_blocks?",
        f"{config}: table [loog] is unknown; did you mean log?",
        "log_format = 'xml' from THEBLOCK_BRIDGE_LOG_FORMAT must be one of text, json",
        "environment variable THEBLOCK_BRIDGE_LISTN is unknown; did you mean THEBLOCK_BRIDGE_LISTEN?",
        (
            f"listen = ':5000' from --listen must be {SETTINGS['listen'].allowed} "
            "(it has no host: write 127.0.0.1 for this machine only, 0.0.0.0 for every IPv4 interface)"
        ),
        "ingest = 'maybe' from --ingest must be true or false",
    ]


def test_a_wrong_value_is_an_error_though_another_overrides_it():
    given = [Given("seed", "1", "--seed")]
    assert errors_of(StateSettings, {"THEBLOCK_BRIDGE_SEED": "x"}, given=given) == [
        "seed = 'x' from THEBLOCK_BRIDGE_SEED must be a whole number from 0 to 9223372036854775807"
    ]


def test_a_setting_in_the_wrong_place_is_told_its_table(write):
    config = write("seed = 1\nlog = 3\n[node]\nlog_level = 'info'\n")
    assert errors_of(config=config) == [
        f"{config}: seed must be in the table [state]",
        f"{config}: [log] must be a table of settings",
        f"{config} [node]: log_level must be in the table [log]",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[log\n", "is not TOML: "),
        (b"[log]\nlog_level = '\xff'\n", "is not TOML: "),
        (b"a = " + b"[" * 100_000, "is not TOML: it is nested too deep"),
        (b"a = " + b"1" * 5000, "is not TOML: "),
        (b"#" * (CONFIG_LIMIT_BYTES + 1), f"is larger than {CONFIG_LIMIT_BYTES} bytes"),
    ],
)
def test_a_file_that_is_not_toml_is_one_error(write, content, reason):
    config = write(content)
    (error,) = errors_of(config=config)
    assert error.startswith(f"{config} {reason}")


def test_a_huge_number_is_one_error(write):
    config = write("[state]\nseed = 0x" + "f" * 5000 + "\n")
    assert errors_of(config=config) == [
        f"seed from {config} [state] must be a whole number from 0 to 9223372036854775807"
    ]


def test_a_file_that_cannot_be_read_is_one_error(tmp_path):
    missing = tmp_path / "missing.toml"
    assert errors_of(config=missing) == [f"{missing} cannot be read: No such file or directory"]
    assert errors_of(config=tmp_path) == [f"{tmp_path} cannot be read: Is a directory"]


def test_a_recording_is_needed_to_play_one(tmp_path):
    source = Given("source", "recording", "--source")
    assert errors_of(StateSettings, given=[source]) == [
        "source is recording (--source), but recording is off (default): it must name a file"
    ]
    missing = Given("recording", str(tmp_path / "missing"), "--recording")
    (error,) = errors_of(StateSettings, given=[source, missing])
    assert error.endswith("must be a file that can be read, or off (there is no such file that this user can read)")
    (tmp_path / "chain").touch()
    settings = load(StateSettings, {}, given=[source, Given("recording", str(tmp_path / "chain"), "--recording")])
    assert settings.recording == tmp_path / "chain"


def test_only_up_may_do_without_grpc():
    environment = {"THEBLOCK_BRIDGE_GRPC_LISTEN": "off"}
    assert load(UpSettings, environment).state.grpc_listen is None
    assert errors_of(StateSettings, environment) == [
        (
            "grpc_listen is off (THEBLOCK_BRIDGE_GRPC_LISTEN), but the state command serves nothing else: "
            "it must be an address"
        )
    ]


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_not_settings():
    links = {
        "THEBLOCK_BRIDGE_SERVICE_HOST": "10.0.0.1",
        "THEBLOCK_BRIDGE_SERVICE_PORT": "5000",
        "THEBLOCK_BRIDGE_SERVICE_PORT_HTTP": "5000",
        "THEBLOCK_BRIDGE_PORT": "tcp://10.0.0.1:5000",
        "THEBLOCK_BRIDGE_PORT_5000_TCP": "tcp://10.0.0.1:5000",
        "THEBLOCK_BRIDGE_PORT_5000_TCP_ADDR": "10.0.0.1",
        "THEBLOCK_BRIDGE_STATE_SERVICE_HOST": "10.0.0.2",
        "THEBLOCK_BRIDGE_STATE_PORT": "tcp://10.0.0.2:50051",
    }
    assert load(UpSettings, links) == UpSettings()
    assert len(errors_of(environment={"THEBLOCK_BRIDGE_PORT": "5000"})) == 1


@given(st.dictionaries(st.sampled_from([setting.variable for setting in SETTINGS.values()]), st.text(max_size=50)))
def test_no_environment_brings_the_reading_down(environment):
    try:
        load(UpSettings, environment)
    except SettingsError as error:
        assert error.errors


TOML_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(list(SETTINGS)), TOML_VALUE)
def test_no_value_brings_the_reading_down(name, value):
    try:
        load(UpSettings, {}, given=[Given(name, value, "file")])
    except SettingsError as error:
        assert all("from file" in text or "(file)" in text for text in error.errors)


# Lists


A, B = Address("a", 1), Address("b", 2)


@pytest.mark.parametrize("value", ["a:1,b:2", " a:1 , b:2,", ["a:1", "b:2"], ["a:1,b:2"]])
def test_several_addresses_are_an_array_or_text_with_commas(value):
    assert load(SidecarSettings, {}, given=[Given("upstream", value, "--upstream")]).upstream == (A, B)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "0 are given"),
        ([], "0 are given"),
        ("a:1,b:2,a:1", "a:1 is given twice"),
        (",".join(f"a:{port}" for port in range(1, 18)), "17 are given"),
        ("a:1,b:0", "port 0 cannot be connected to"),
    ],
)
def test_addresses_that_will_not_do_are_told(value, reason):
    (error,) = errors_of(SidecarSettings, given=[Given("upstream", value, "--upstream")])
    assert "must be 1 to 16 of host:port, [IPv6]:port or unix:/path, separated by commas" in error
    assert error.endswith(f"({reason})")


# Secrets


def test_a_secret_is_in_no_error():
    token = "s3cret-token-pasted-where-its-file-belongs"
    (error,) = errors_of(environment={"THEBLOCK_BRIDGE_NODE_TOKEN_FILE": token})
    assert token not in error
    assert error.startswith("node_token_file from THEBLOCK_BRIDGE_NODE_TOKEN_FILE must be a file")


@pytest.mark.parametrize("text", ["http://user:s3cret@host:1", "http://host:1/?token=s3cret", "ftp://u:s3cret@host"])
def test_a_url_with_a_secret_is_refused_and_not_repeated(text):
    (error,) = errors_of(environment={"THEBLOCK_BRIDGE_NODE_URL": text})
    assert "s3cret" not in error


def test_a_secret_is_not_in_what_is_printed(tmp_path):
    file = tmp_path / "token"
    file.write_text("s3cret")
    settings = load(StateSettings, {"THEBLOCK_BRIDGE_NODE_TOKEN_FILE": str(file)})
    assert settings.node.node_token_file == file
    assert str(file) not in repr(settings)
    assert SETTINGS["node_token_file"].show(file) == "***"


# Kinds


@given(st.integers())
def test_a_whole_number_is_within_its_range(value):
    kind = whole(-5, 5)
    if -5 <= value <= 5:
        assert kind.read(value) == kind.read(str(value)) == value
    else:
        for given_value in (value, str(value)):
            with pytest.raises(ValueError, match="^$"):
                kind.read(given_value)


@pytest.mark.parametrize("value", [True, 1.0, "1.0", "one", "", None, [1], "1" * 5000])
def test_other_values_are_no_whole_numbers(value):
    with pytest.raises(ValueError, match="^$"):
        whole(0, 10).read(value)


@pytest.mark.parametrize("value", [True, "nan", float("nan"), "inf", float("-inf"), "", None, [1.0], 11, "-0.1"])
def test_other_values_are_no_numbers(value):
    with pytest.raises(ValueError, match="^$"):
        number(0, 10).read(value)


@pytest.mark.parametrize(("value", "read"), [("TRUE", True), ("on", True), ("1", True), ("no", False), (False, False)])
def test_a_switch_is_read(value, read):
    assert SWITCH.read(value) is read


@pytest.mark.parametrize("value", ["", "2", 1, 0, None, "tru"])
def test_other_values_are_no_switches(value):
    with pytest.raises(ValueError, match="^$"):
        SWITCH.read(value)


@pytest.mark.parametrize(
    ("value", "read"), [("", ()), ([], ()), ("a.b", ("a.b",)), ("a, b,", ("a", "b")), (["a", "b,c"], ("a", "b", "c"))]
)
def test_a_list_is_read(value, read):
    assert SETTINGS["node_methods"].kind.read(value) == read


@pytest.mark.parametrize("value", [3, ["a", 3], "a b", [["a"]], {"a": 1}])
def test_other_values_are_no_lists(value):
    with pytest.raises(ValueError, match="^$"):
        SETTINGS["node_methods"].kind.read(value)


@pytest.mark.parametrize("value", ["http://127.0.0.1:3030", "https://node.example/rpc", "http://[::1]:3030"])
def test_a_url_is_read(value):
    assert url("http", "https").read(value) == value


@pytest.mark.parametrize(
    "value",
    ["127.0.0.1:3030", "ftp://host", "http://", "http://host:0", "http://host:99999", "http://ho st", "http://h\tx", 3],
)
def test_other_values_are_no_urls(value):
    with pytest.raises(ValueError, match=".*"):
        url("http", "https").read(value)


@pytest.mark.parametrize("value", ["https://app.example", "http://localhost:4173", "tauri://localhost"])
def test_an_origin_is_read(value):
    assert SETTINGS["allowed_origins"].kind.read(value) == (value,)


@pytest.mark.parametrize("value", ["*", "null", "https://app.example/", "https://App.example", "app.example"])
def test_other_values_are_no_origins(value):
    with pytest.raises(ValueError, match="^$"):
        SETTINGS["allowed_origins"].kind.read(value)


@pytest.mark.parametrize("value", ["", "off"])
def test_an_optional_setting_can_be_off(value):
    assert load(StateSettings, {"THEBLOCK_BRIDGE_NODE_HOST_HEADER": value}).node == NodeSettings()


# Addresses

PORTS = st.integers(0, 65535)
HOSTS = st.one_of(
    st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,10}[a-z0-9])?){0,3}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
PATHS = st.from_regex(r"/[A-Za-z0-9_./-]{0,100}", fullmatch=True)
ADDRESSES = st.builds(Address, HOSTS, PORTS) | st.builds(lambda path: Address(path=path), PATHS)


@given(ADDRESSES)
def test_an_address_reads_back_from_its_text(address):
    assert Address.parse(str(address)) == address


@given(st.text() | st.from_regex(r"[\[\]a-z0-9.:/-]{1,20}:[0-9]{1,6}", fullmatch=True))
def test_any_text_is_an_address_or_refused_with_a_reason(text):
    try:
        address = Address.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert Address.parse(str(address)) == address
        assert bool(address.host) != bool(address.path)
        assert 0 <= address.port <= 65535


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5000", Address("127.0.0.1", 5000)),
        ("localhost:0", Address("localhost", 0)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:50051", Address("::1", 50051)),
        ("[0:0:0:0:0:0:0:1]:1", Address("::1", 1)),
        ("state.bridge_net.internal:1", Address("state.bridge_net.internal", 1)),
        ("unix:/run/bridge.sock", Address(path="/run/bridge.sock")),
    ],
)
def test_an_address_is_read(text, address):
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no port"),
        ("127.0.0.1", "no port"),
        ("127.0.0.1:", "no port"),
        ("127.0.0.1:65536", "no port"),
        ("127.0.0.1:+1", "no port"),
        ("127.0.0.1:٣", "no port"),
        (":5000", "no host"),
        ("::1:5000", "brackets"),
        ("[::g]:5000", "not an IP address"),
        ("1.2.3:5000", "not an IP address"),
        ("256.1.1.1:5000", "not an IP address"),
        ("*:5000", "neither a name"),
        ("http://host:5000", "brackets"),
        ("user@host:5000", "neither a name"),
        ("-host:5000", "neither a name"),
        ("a" * 254 + ":1", "neither a name"),
        ("unix:", "absolute"),
        ("unix:run/x.sock", "absolute"),
        ("unix:/run/\0", "printable"),
        ("unix:/" + "x" * 107, "107 bytes"),
    ],
)
def test_other_text_is_no_address(text, reason):
    with pytest.raises(ValueError, match=reason):
        Address.parse(text)


def test_port_0_can_be_listened_on_but_not_connected_to():
    assert load(SidecarSettings, {"THEBLOCK_BRIDGE_LISTEN": "127.0.0.1:0"}).listen.port == 0
    with pytest.raises(ValueError, match="port 0"):
        PEER.read("127.0.0.1:0")
