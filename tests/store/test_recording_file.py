"""Recording files: written, read, cut short, damaged."""

import gzip
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.errors import BridgeError
from bridge.store.recording_file import HEADER, UPDATE_BYTES, RecordingReader, RecordingWriter
from generated.theblock.state.v1.block_pb2 import BlockUpdate
from generated.theblock.state.v1.update_pb2 import CustomUpdate, Update

NAMES = ["chain.recording", "chain.recording.gz"]


def block(seq: int) -> bytes:
    update = Update(stream="block_updates", epoch="e1", seq=seq, time_ms=1_700_000_000_000 + seq)
    update.block.CopyFrom(BlockUpdate(height=seq, hash=seq.to_bytes(32, "big")))
    return update.SerializeToString(deterministic=True)


def record(path: Path, updates: list[bytes]) -> None:
    with RecordingWriter(path) as writer:
        for update in updates:
            writer.write(update)
        assert writer.count == len(updates)


def read(path: Path) -> tuple[list[bytes], bool]:
    reader = RecordingReader(path)
    return [update.SerializeToString(deterministic=True) for update in reader], reader.truncated


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_read_byte_for_byte(tmp_path: Path, name: str) -> None:
    updates = [block(seq) for seq in range(1, 500)]
    custom = Update(stream="weather", epoch="e1", seq=1, key="north", custom=CustomUpdate(type="w", json=b'{"t":1}'))
    large = Update(stream="weather", seq=2, custom=CustomUpdate(type="w", json=b'"' + b"x" * 300_000 + b'"'))
    updates += [custom.SerializeToString(deterministic=True), large.SerializeToString(deterministic=True)]
    record(tmp_path / name, updates)
    assert read(tmp_path / name) == (updates, False)


def test_the_format_is_a_line_and_delimited_messages(tmp_path: Path) -> None:
    record(tmp_path / "a", [block(1)])
    assert (tmp_path / "a").read_bytes() == b"theblock-recording 1\n" + bytes([len(block(1))]) + block(1)
    record(tmp_path / "a.gz", [block(1)])
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_without_updates_is_one(tmp_path: Path, name: str) -> None:
    record(tmp_path / name, [])
    assert read(tmp_path / name) == ([], False)


def test_compression_is_seen_from_the_content_not_from_the_name(tmp_path: Path) -> None:
    record(tmp_path / "a.gz", [block(1)])
    (tmp_path / "a.gz").rename(tmp_path / "renamed")
    assert read(tmp_path / "renamed") == ([block(1)], False)


def test_a_reader_reads_as_often_as_it_is_asked(tmp_path: Path) -> None:
    record(tmp_path / "a", [block(1), block(2)])
    reader = RecordingReader(tmp_path / "a")
    assert list(reader) == list(reader)


@pytest.mark.parametrize("name", NAMES)
def test_a_flushed_recording_is_readable_while_it_grows(tmp_path: Path, name: str) -> None:
    with RecordingWriter(tmp_path / name) as writer:
        writer.write(block(1))
        writer.flush()
        assert read(tmp_path / name)[0] == [block(1)]
        writer.write(block(2))
        writer.flush()
        assert read(tmp_path / name)[0] == [block(1), block(2)]


def test_writing_flushes_once_in_a_second(tmp_path: Path) -> None:
    now = 5.0
    with RecordingWriter(tmp_path / "a", clock=lambda: now) as writer:
        writer.write(block(1))
        now += 0.5
        writer.write(block(2))
        assert read(tmp_path / "a") == ([], False)
        now += 0.5
        writer.write(block(3))
        assert read(tmp_path / "a") == ([block(1), block(2), block(3)], False)


@given(cut=st.integers(len(HEADER), len(HEADER) + 3 * (len(block(1)) + 1)))
@settings(deadline=None)
def test_a_tail_that_was_cut_off_costs_only_the_update_it_cuts(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a"
    record(path, [block(1), block(2), block(3)])
    path.write_bytes(path.read_bytes()[:cut])
    whole, part = divmod(cut - len(HEADER), len(block(1)) + 1)
    assert read(path) == ([block(1), block(2), block(3)][:whole], part > 0)


def test_a_compressed_tail_that_was_cut_off_is_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    updates = [block(seq) for seq in range(1, 200)]
    with RecordingWriter(path) as writer:
        for update in updates[:100]:
            writer.write(update)
        writer.flush()
        flushed = path.stat().st_size
        for update in updates[100:]:
            writer.write(update)
    data = path.read_bytes()
    for size in (flushed, flushed + 20, len(data) - 9, len(data) - 1):
        path.write_bytes(data[:size])
        got, truncated = read(path)
        assert truncated
        assert len(got) >= 100
        assert got == updates[: len(got)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it must begin with the line 'theblock-recording 1'"),
        (b"theblock-recording 1", "it must begin with the line"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "it must begin with the line"),
        (bytes(1000), "it must begin with the line"),
        (b"\x1f\x8b", "it must begin with the line"),
        (gzip.compress(b"hello\n"), "it must begin with the line"),
        (b"theblock-recording 2\n" + bytes(9), "is of version '2': this program reads version '1'"),
        (b"\x1f\x8b\x07" + bytes(100), "is damaged"),
        (HEADER + b"\x00", "is damaged at update 1: it would have 0 bytes"),
        (HEADER + b"\xff\xff\xff\x7f", f"at update 1: it would have 268435455 bytes, and 1 to {UPDATE_BYTES}"),
        (HEADER + b"\xff\xff\xff\xff\x01", "is damaged at update 1: its length has too many digits"),
        (HEADER + b"\x05hello", "is damaged at update 1: it is no Update message"),
        (HEADER + b"\x02\x18\x07", "is damaged at update 1: it names no stream"),
        (HEADER + bytes([len(block(1))]) + block(1) + b"\x05hello", "is damaged at update 2"),
    ],
)
def test_what_is_no_recording_or_a_damaged_one_is_one_clear_error(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(BridgeError) as caught:
        list(RecordingReader(path))
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_flipped_bit_in_compressed_data_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    record(path, [block(seq) for seq in range(1, 200)])
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the checksum
    path.write_bytes(data)
    with pytest.raises(BridgeError, match="is damaged"):
        list(RecordingReader(path))


@given(content=st.binary(max_size=200), header=st.sampled_from([b"", HEADER]), packed=st.booleans())
@settings(deadline=None)
def test_any_content_ends_in_updates_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: bytes, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(gzip.compress(header + content) if packed else header + content)
    try:
        assert all(update.stream for update in RecordingReader(path))
    except BridgeError as error:
        assert str(path) in str(error)


def test_a_file_that_is_not_there_or_a_directory_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match=r"cannot be read: No such file or directory"):
        list(RecordingReader(tmp_path / "absent"))
    with pytest.raises(BridgeError, match=r"cannot be read: Is a directory"):
        list(RecordingReader(tmp_path))


def test_an_existing_file_is_overwritten_only_if_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    record(path, [block(1)])
    with pytest.raises(BridgeError, match=r"exists already: name another file, or say that it may be overwritten"):
        RecordingWriter(path)
    assert read(path) == ([block(1)], False)
    with RecordingWriter(path, overwrite=True) as writer:
        writer.write(block(2))
    assert read(path) == ([block(2)], False)


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match=r"cannot be written: No such file or directory"):
        RecordingWriter(tmp_path / "absent" / "a")
    with pytest.raises(BridgeError, match=r"/dev/full cannot be written: No space left on device"):
        RecordingWriter(Path("/dev/full"), overwrite=True)


def test_a_disk_that_fills_up_is_one_clear_error_and_leaves_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "a"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(BridgeError, match=r"cannot be written: File too large"), RecordingWriter(path) as writer:
            for seq in range(1, 10_000):
                writer.write(block(seq))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    got, _ = read(path)
    assert got == [block(seq) for seq in range(1, len(got) + 1)]
    assert got


def test_an_update_that_no_reader_would_take_is_refused(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a") as writer:
        with pytest.raises(BridgeError, match="an update of 0 bytes cannot be recorded"):
            writer.write(b"")
        with pytest.raises(BridgeError, match=f"1 to {UPDATE_BYTES} are allowed"):
            writer.write(bytes(UPDATE_BYTES + 1))
    assert read(tmp_path / "a") == ([], False)


def test_a_closed_recording_takes_nothing_more(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a")
    writer.close()
    writer.close()
    writer.flush()
    with pytest.raises(BridgeError, match="is closed"):
        writer.write(block(1))
