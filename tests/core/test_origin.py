"""The origin: every update gets the next position of its stream, once, or is refused with a sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import JournalError, PublishError
from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub
from bridge.core.origin import CUSTOM_BYTES, CUSTOM_DEPTH, Origin, check_key
from bridge.core.update import Update
from generated.theblock.state.v1 import account_pb2, block_pb2, update_pb2
from tests.core.world import CATALOGUE, NOW_MS, World, texts


def test_positions_are_dense_on_each_stream():
    world = World()
    assert [world.block(n).position for n in (5, 6, 5)] == [("e1", 1), ("e1", 2), ("e1", 3)]
    assert world.metrics(1.0).position == ("e1", 1)
    assert [world.account(key, 1).prev for key in "abaab"] == [0, 0, 1, 3, 2]


def test_an_update_is_the_bytes_that_it_was_serialized_to():
    world = World()
    update = world.account("a", 7)
    message = update_pb2.Update.FromString(update.raw)
    assert (message.stream, message.epoch, message.seq, message.key, message.time_ms) == (
        "account",
        "e1",
        1,
        "a",
        NOW_MS,
    )
    assert message.account == account_pb2.AccountUpdate(address="a", nonce=7)
    assert message.SerializeToString(deterministic=True) == update.raw
    assert update.time_ms == NOW_MS


def test_the_time_may_be_given():
    assert World().origin.publish(block_pb2.BlockUpdate(), time_ms=7).time_ms == 7


def test_a_new_epoch_begins_every_stream_anew():
    world = World()
    for _ in range(3):
        world.block(1)
        world.account("a", 1)
        world.custom("notes", {})
    world.begin_epoch()
    assert world.hub.epoch == world.origin.epoch == "e2"
    assert world.block(1).position == ("e2", 1)
    assert world.account("a", 1).prev == 0
    assert world.custom("notes", {}).position == ("e2", 1)


def test_streams_are_reserved_for_a_source():
    world = World()
    assert world.origin.owned == frozenset()
    world.origin.own(["metrics", "block_updates"])
    assert world.origin.owned == {"metrics", "block_updates"}


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (block_pb2.ReplacedBlock(), "no stream carries a theblock.state.v1.ReplacedBlock"),
        (update_pb2.Update(), "no stream carries a theblock.state.v1.Update"),
        (account_pb2.AccountUpdate(), "the key '' is ill-formed"),
        (account_pb2.AccountUpdate(address="a b"), "the key 'a b' is ill-formed: it must match"),
        (account_pb2.AccountUpdate(address="k" * 10_000), "is ill-formed"),
        (
            account_pb2.AccountUpdate(address="a", balance="1.5"),
            "AccountUpdate.balance must be a decimal integer, not '1.5'",
        ),
    ],
)
def test_a_payload_that_cannot_be_is_refused(payload, told):
    world = World()
    with pytest.raises(PublishError) as error:
        world.origin.publish(payload)
    assert told in str(error.value)
    assert len(str(error.value)) < 400
    assert world.hub.histories["account"].head == 0


@pytest.mark.parametrize(
    ("name", "type_", "value", "key", "told"),
    [
        ("Notes", "note", b"{}", "", "the stream 'Notes' is ill-formed"),
        ("", "note", b"{}", "", "the stream '' is ill-formed"),
        ("notes", "no te", b"{}", "", "the type 'no te' is ill-formed"),
        ("notes", "gap", b"{}", "", "the type 'gap' is taken"),
        ("notes", "block_update", b"{}", "", "the type 'block_update' is taken"),
        ("notes", "note", b"{}", "a/b", "the key 'a/b' is ill-formed"),
        ("notes", "note", b"[]", "", "not a JSON object"),
        ("notes", "note", b"{", "", "not JSON"),
        ("notes", "note", b'{"a":1,"a":2}', "", "stands twice"),
        ("notes", "note", b'{"a":NaN}', "", "NaN is not JSON"),
        ("notes", "note", b"\xef\xbb\xbf{}", "", "not a JSON object that is allowed"),
        ("notes", "note", "{}".encode("utf-16-le"), "", "not a JSON object that is allowed"),
        ("notes", "note", b'{"a":"\xed\xa0\x80"}', "", "not UTF-8"),
        ("notes", "note", b'{"a":' * (CUSTOM_DEPTH + 1) + b"1" + b"}" * (CUSTOM_DEPTH + 1), "", "nested too deep"),
        ("notes", "note", b'{"a":"' + b"x" * CUSTOM_BYTES + b'"}', "", f"at most {CUSTOM_BYTES} are allowed"),
        (
            "block_updates",
            "note",
            b"{}",
            "",
            "stream 'block_updates' is declared: it takes theblock.state.v1.BlockUpdate",
        ),
        ("known", "note", b"{}", "", "stream 'known' carries 'known_update', not 'note'"),
        ("known", "known_update", b"{}", "a", "stream 'known' has no keys: give none"),
        ("keyed", "keyed_update", b"{}", "", "stream 'keyed' has keys: give one"),
    ],
)
def test_a_custom_value_that_cannot_be_is_refused(name, type_, value, key, told):
    world = World()
    world.custom("known", {}, type_="known_update")
    world.custom("keyed", {}, "a", type_="keyed_update")
    before = {name: history.head for name, history in world.hub.histories.items()}
    with pytest.raises(PublishError) as error:
        world.origin.publish_custom(name, type_, value, key=key)
    assert told in str(error.value)
    assert {name: history.head for name, history in world.hub.histories.items()} == before, "nothing was declared"


def test_a_custom_stream_begins_with_its_first_update():
    world = World()
    client = world.client()
    client.subscribe("notes")
    world.run()
    world.custom("notes", {"n": 1})
    world.run()
    assert client.updates == [("notes", 1)]
    assert client.frames[-1]["type"] == "custom_update"


def test_a_custom_value_is_on_one_line_and_else_as_it_was_written():
    world = World()
    update = world.origin.publish_custom("notes", "note", b'{\r\n "a" : "\\n" ,\n\t"b":1.0}')
    client = world.client()
    client.subscribe("notes")
    assert b'{ "a" : "\\n" ,\t"b":1.0}' in client.written[-1]
    assert update.data() == {"a": "\n", "b": 1.0}


def test_custom_streams_are_limited():
    hub = Hub(CATALOGUE, clock_ms=lambda: 0, schedule=lambda: None)
    origin = Origin(hub, new_epoch=lambda: "e", custom_streams=2)
    for name in ("one", "two", "one"):
        origin.publish_custom(name, "note", b"{}")
    with pytest.raises(PublishError, match="there are 2 custom streams already"):
        origin.publish_custom("three", "note", b"{}")


def test_keys_are_limited():
    world = World(limits=HistoryLimits(keys=2))
    for key in "aba":
        world.account(key, 1)
    with pytest.raises(PublishError, match="stream 'account' has 2 keys, and no more are allowed"):
        world.origin.publish(account_pb2.AccountUpdate(address="c"))
    assert world.account("b", 2).prev == 2


def test_check_key():
    assert check_key("0xAb") == "0xAb"
    with pytest.raises(PublishError):
        check_key("ä")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_any_json_object_arrives_as_it_was_published(value, ascii_only, indent):
    world = World()
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    update = world.origin.publish_custom("notes", "note", text.encode())
    client = world.client()
    client.subscribe("notes")
    (frame,) = texts(client.written[-1])
    assert frame["data"] == value
    assert update.data() == value


# ---------------------------------------------------------------------- with a store


class ListStore:
    """A store whose disk is a list, which can be full."""

    def __init__(self, epoch: str = "e0", *, immediate: bool = True) -> None:
        self.epoch = epoch
        self.immediate = immediate
        self.chain: bytes | None = None
        self.full = False
        self.kept: list[tuple[Update, str, int]] = []

    def keep(self, update: Update, publisher: str, publisher_seq: int) -> None:
        self._check()
        self.kept.append((update, publisher, publisher_seq))

    def begin_epoch(self, epoch: str) -> None:
        self._check()
        self.kept.clear()
        self.epoch, self.chain = epoch, None

    def keep_chain(self, chain: bytes) -> None:
        self._check()
        self.chain = chain

    async def durable(self) -> None:
        pass

    def _check(self) -> None:
        if self.full:
            raise JournalError("the disk is full")


class Kept(World):
    """A world whose origin has a store."""

    def __init__(self, store: ListStore) -> None:
        super().__init__()
        self.hub.set_epoch(store.epoch)
        self.origin = Origin(self.hub, new_epoch=iter(("e1", "e2")).__next__, store=store)


def test_an_origin_goes_on_in_the_epoch_of_its_store():
    store = ListStore()
    world = Kept(store)
    assert world.block(1).position == ("e0", 1)
    world.origin.publish_custom("notes", "note", b"{}", publisher="p", publisher_seq=7)
    assert [(update.stream.name, update.seq, *who) for update, *who in store.kept] == [
        ("block_updates", 1, "", 0),
        ("notes", 1, "p", 7),
    ]
    world.origin.begin_epoch()
    assert (store.epoch, world.hub.epoch, store.kept) == ("e1", "e1", [])


def test_what_cannot_be_kept_is_not_published_and_takes_no_position():
    store = ListStore()
    world = Kept(store)
    world.block(1)
    store.full = True
    with pytest.raises(JournalError):
        world.block(2)
    with pytest.raises(JournalError):
        world.origin.begin_epoch()
    with pytest.raises(JournalError):
        world.origin.set_chain(b"g")
    assert (world.hub.history("block_updates").head, world.origin.epoch, world.origin.chain) == (1, "e0", None)
    store.full = False
    assert world.block(2).position == ("e0", 2)


def test_what_is_not_safe_yet_has_its_position_and_is_not_sent():
    store = ListStore(immediate=False)
    world = Kept(store)
    updates = [world.block(1), world.account("a", 1), world.account("b", 1), world.account("a", 2), world.block(2)]
    assert [(update.seq, update.prev) for update in updates] == [(1, 0), (1, 0), (2, 0), (3, 1), (2, 0)]
    blocks, accounts = world.hub.history("block_updates"), world.hub.history("account")
    assert (blocks.head, accounts.head) == (0, 0)
    world.origin.admit_kept(2)
    assert (blocks.head, accounts.head) == (1, 1)
    assert (world.account("a", 3).prev, world.block(3).seq) == (3, 3)
    world.origin.admit_kept(99)
    assert (blocks.head, accounts.head) == (3, 4)
    assert (world.account("b", 2).prev, world.account("c", 1).prev) == (2, 0)


def test_a_new_epoch_drops_what_waits():
    world = Kept(ListStore(immediate=False))
    world.block(1)
    world.origin.begin_epoch()
    world.origin.admit_kept(1)
    assert world.hub.history("block_updates").head == 0
    assert world.block(1).position == ("e1", 1)


def test_the_chain_is_kept_once_and_forgotten_with_its_epoch():
    store = ListStore()
    world = Kept(store)
    world.origin.set_chain(b"g")
    assert store.chain == world.origin.chain == b"g"
    store.full = True
    world.origin.set_chain(b"g")  # nothing to keep
    store.full = False
    world.origin.begin_epoch()
    assert store.chain is world.origin.chain is None


def test_the_chain_is_noted_where_nothing_is_kept():
    world = World()
    world.origin.set_chain(b"g")
    assert world.origin.chain == b"g"


async def test_waiting_for_what_is_published_ends_where_nothing_is_kept():
    await World().origin.durable()
    await Kept(ListStore()).origin.durable()
