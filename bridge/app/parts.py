"""The parts that processes are made of, made from settings."""

import asyncio
import logging
import os
import secrets
import string
import time
from pathlib import Path
from typing import Final, Protocol

from bridge.core.deflate import Deflate
from bridge.core.errors import StartError
from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub, State
from bridge.core.origin import Origin
from bridge.core.position import Position
from bridge.core.streams import Catalogue
from bridge.edges.grpc.server import Service
from bridge.edges.grpc.state import StateStreamService
from bridge.edges.patience import Patience
from bridge.ops.call_cache import CallCache
from bridge.ops.node_gate import NodeGate
from bridge.settings import HistorySettings, NodeSettings, SidecarSettings, StateSettings, WebSocketSettings
from bridge.sources.grpc import UpstreamSource
from bridge.sources.ingest import IngestService, Publishers
from bridge.sources.node.settings import NodeSettings as NodeSourceSettings
from bridge.sources.node.source import NodeSource
from bridge.sources.recording import RecordingSource
from bridge.sources.simulated import SimulatedSource
from bridge.store.journal import Journal, JournalLimits, Sync
from bridge.store.keeper import Keeper, journal_folder

log = logging.getLogger(__name__)

EPOCH_LETTERS: Final = string.ascii_lowercase + string.digits

RELAYED_ANSWER_SECONDS: Final = 0.25
"""How long a sidecar shares an answer that its state service has cached already: it must not grow much older."""


def make_hub(history: HistorySettings, websocket: WebSocketSettings) -> Hub:
    """Make the hub of a process; it runs on the loop that is running."""
    loop = asyncio.get_running_loop()
    limits = HistoryLimits(
        count=history.history_count,
        bytes=history.history_bytes,
        age_ms=round(history.history_age_seconds * 1000),
        keys=history.key_limit,
    )
    hub = Hub(
        Catalogue(),
        clock_ms=clock_ms,
        monotonic_ms=monotonic_ms,
        schedule=lambda: loop.call_soon(hub.run),
        remind=lambda ms: loop.call_later(ms / 1000, hub.wake),
        limits=limits,
        slice_writes=websocket.slice_writes,
        page_bytes=history.page_bytes,
    )
    return hub


def make_patience(settings: WebSocketSettings) -> Patience:
    """Return how long WebSocket peers are waited for."""
    return Patience(
        ping_interval_seconds=settings.ping_interval_seconds,
        pong_timeout_seconds=settings.pong_timeout_seconds,
        stall_timeout_seconds=settings.stall_timeout_seconds,
        send_buffer_bytes=settings.send_buffer_bytes,
        write_buffer_bytes=settings.write_buffer_bytes,
    )


def make_deflate(settings: WebSocketSettings) -> Deflate | None:
    """Return how WebSocket messages are deflated, None where they are not."""
    return Deflate(settings.deflate_minimum_bytes, settings.deflate_level) if settings.deflate else None


def make_node_calls(source: "Source", settings: NodeSettings) -> CallCache | None:
    """Make what calls the node for clients, None where the source is no node."""
    if not isinstance(source, NodeSource):
        return None
    gate = NodeGate(source.call, settings.node_methods)
    return CallCache(gate.call, keep_seconds=settings.call_cache_ms / 1000)


def make_relayed_calls(upstream: UpstreamSource) -> CallCache:
    """Make what calls the node for clients, through the state service."""
    return CallCache(upstream.call_node, keep_seconds=RELAYED_ANSWER_SECONDS)


def open_journal(settings: StateSettings) -> Keeper | None:
    """Open the journal of a state service; None where there is to be none.

    Raises:
        StartError: it cannot be opened, or another process has it.
    """
    journal = settings.journal
    folder = journal_folder(journal.data_dir, settings.source, dict(os.environ), Path.home())
    if folder is None:
        return None
    limits = JournalLimits(
        count=journal.journal_count,
        bytes=journal.journal_bytes,
        age_ms=round(journal.journal_age_seconds * 1000),
    )
    sync = Sync(journal.journal_sync)
    level = logging.WARNING if any(folder.glob("*")) else logging.INFO  # a first start is no trouble
    opened = Journal.open(folder, limits=limits, sync=sync, new_epoch=new_epoch, clock_ms=clock_ms)
    for note in opened.notes:
        log.log(level, "%s", note)
    return Keeper(opened, sync=sync, clock_ms=clock_ms)


def make_publishers(journal: Journal) -> Publishers:
    """Return what a journal knows of publishers."""
    publishers = Publishers()
    for name, forgotten, newest in journal.publishers():
        publishers.restore(name, forgotten, ((seq, Position(journal.epoch, at)) for seq, _, at in newest))
    return publishers


def make_services(
    hub: Hub, origin: Origin, calls: CallCache | None, keeper: Keeper | None, settings: StateSettings
) -> list[Service]:
    """Make the gRPC services of a state service."""
    state = StateStreamService(
        hub,
        call_node=None if calls is None else calls.call,
        node_methods=settings.node.node_methods,
        subscriber_limit=settings.subscriber_limit,
    )
    if not settings.ingest:
        return [state]
    publishers = None if keeper is None else make_publishers(keeper.journal)
    return [state, IngestService(origin, publishers=publishers)]


def make_upstream(hub: Hub, settings: SidecarSettings) -> UpstreamSource:
    """Make the source of a sidecar."""
    return UpstreamSource(settings.upstream, hub, keepalive_seconds=settings.grpc.keepalive_seconds)


class Source(Protocol):
    """What feeds the hub beside the node."""

    streams: frozenset[str]

    async def run(self, origin: Origin) -> None:
        """Publish until cancelled."""


class NoSource:
    """Publishes nothing, so that publishers may."""

    streams: frozenset[str] = frozenset()

    async def run(self, origin: Origin) -> None:
        """Say that publishers are awaited."""
        origin.hub.set_status(State.LIVE, "no source: what publishers send is served")
        await asyncio.Event().wait()


def make_source(settings: StateSettings) -> Source:
    """Make the source that the settings name.

    Raises:
        BridgeError: it cannot be made: no recording is named, say.
    """
    match settings.source:
        case "simulated":
            return SimulatedSource(settings.seed, settings.blocks_per_second)
        case "recording":
            if settings.recording is None:
                raise StartError("the source is a recording, but no file is named: give --recording FILE")
            return RecordingSource(settings.recording, settings.recording_speed)
        case "node":
            return make_node_source(settings.node)
        case _:
            return NoSource()


def make_node_source(settings: NodeSettings) -> NodeSource:
    """Make the source that reads a node.

    Raises:
        StartError: the file with the token cannot be read.
    """
    token = None
    if settings.node_token_file is not None:
        try:
            token = settings.node_token_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise StartError("the file that node_token_file names cannot be read") from None
    return NodeSource(
        NodeSourceSettings(
            url=settings.node_url,
            host_header=settings.node_host_header,
            token=token,
            backfill_blocks=settings.backfill_blocks,
            poll_interval_ms=settings.poll_interval_ms,
            ban_seconds=settings.ban_seconds,
            call_timeout_seconds=settings.call_timeout_seconds,
            stale_after_seconds=settings.stale_after_seconds,
            account_limit=settings.account_limit,
            message_limit_bytes=settings.account_message_limit_bytes,
            metrics_url=settings.node_metrics_url,
        )
    )


def clock_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Return milliseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


def new_epoch() -> str:
    """Return a name for an epoch that no other has: 8 letters and digits, 41 random bits."""
    return "".join(secrets.choice(EPOCH_LETTERS) for _ in range(8))
