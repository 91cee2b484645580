"""The source of a sidecar: another process's state service, followed through gRPC.

One subscription feeds the hub, however many clients the hub has. When it is lost it is made anew from the positions
where it ended, at the next address if there are several, so that nothing is lost or repeated.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError

from bridge.core.backoff import Backoff
from bridge.core.hub import Hub, State
from bridge.settings.address import Address
from bridge.sources.channels import Channels
from bridge.sources.faults import Doubt, Doubted, Fault
from bridge.sources.intake import Intake, Subscriptions
from bridge.sources.patience import Patience
from bridge.sources.statuses import MEANINGS, Blame, Pace, told
from bridge.sources.upstreams import Upstream, Upstreams
from generated.theblock.state.v1 import stream_pb2, view_pb2

log = logging.getLogger(__name__)

STEADY_SECONDS = 5.0
"""A subscription that lasted as long was a good one: pauses begin anew."""

STATES = {
    stream_pb2.SOURCE_STATE_LIVE: State.LIVE,
    stream_pb2.SOURCE_STATE_STALE: State.STALE,
}
"""Every other state is DOWN."""


@dataclass
class Following:
    """One subscription.

    Attributes:
        upstream: that is subscribed to.
        began_at: when, by the clock of the loop.
        answered: whether it has.
        source: state of its source as it was passed on.
        down: whether it says that its source is down.
        alone: whether the others have been asked since, and none is live.
    """

    upstream: Upstream
    began_at: float
    answered: bool = False
    source: stream_pb2.SourceStatus | None = None
    down: asyncio.Event = field(default_factory=asyncio.Event)
    alone: bool = False


class UpstreamSource:
    """Follows a state service, through whichever of its addresses works.

    Attributes:
        upstreams: the addresses.
        subscriptions: what has become of the subscriptions.
        channels: through which it calls.
        call_node: calls the node, as `Channels.call_node` says.
        list_updates: returns a page of history, as `Channels.list_updates` says.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        hub: Hub,
        *,
        history_count: int | None = None,
        keepalive_seconds: float = 30.0,
        patience: Patience | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Describe a source; `run` follows.

        Args:
            addresses: of the state service and of relays of it, at least one.
            hub: that it feeds; nothing else may.
            history_count: with how many updates a stream begins; default: as many as the hub remembers.
            keepalive_seconds: how often a quiet connection is tried for life.
            patience: how long it waits.
            random: returns a number in [0, 1), for the pauses.
        """
        self._patience = patience or Patience()
        self.upstreams = Upstreams(addresses, self._patience, random)
        self.subscriptions = Subscriptions()
        self._hub = hub
        self.channels = Channels(self.upstreams, keepalive_seconds, self._patience.call)
        self.call_node = self.channels.call_node
        self.list_updates = self.channels.list_updates
        count = hub.limits.count if history_count is None else history_count
        self._intake = Intake(hub, self.subscriptions, history_count=count)
        self._random = random
        self._look_pauses = Backoff(self._patience.look_pause, 10 * self._patience.look_pause, random)
        self._told = False  # ever what state the source is in
        hub.upstream_reached = False  # until everything is here that the service has

    async def run(self) -> None:
        """Follow until cancelled; never raises for anything that the service does. Not to be run again."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                upstream, pause = self.upstreams.next(loop.time())
                await asyncio.sleep(pause)
                await self._follow_once(upstream)
        finally:
            await self.channels.close()

    async def _follow_once(self, upstream: Upstream) -> None:
        """Follow one subscription to its end, and note how it ended."""
        following = Following(upstream, asyncio.get_running_loop().time())
        try:
            if (better := await self._follow_until_better(following)) is not None:
                log.warning("%s is left, since its source is down, for %s", upstream.address, better.address)
                self.upstreams.turn_to(better)
                self._hub.upstream_reached = False
                return
            self._fail(following, MEANINGS[grpc.StatusCode.OK].problem)
        except Doubted as doubted:
            self._doubt(following, doubted)
            return
        except Fault as fault:
            self._note_fault(following, str(fault), fault.stream)
        except DecodeError:
            self._note_fault(following, "it sent a message that is none of its own")
        except TimeoutError:
            waited = self._patience.silence if following.answered else self._patience.answer
            self._fail(following, f"has said nothing for {waited:g} s")
        except grpc.aio.AioRpcError as error:
            self._end(following, error)
        self._intake.keep_positions()

    async def _follow_until_better(self, following: Following) -> Upstream | None:
        """Follow until the service ends the subscription; or return the address to follow instead."""
        if len(self.upstreams) == 1:
            await self._follow(following)
            return None
        follow = asyncio.create_task(self._follow(following))
        look = asyncio.create_task(self._look_elsewhere(following))
        try:
            await asyncio.wait({follow, look}, return_when=asyncio.FIRST_COMPLETED)
            return follow.result() if follow.done() else look.result()
        finally:
            follow.cancel()
            look.cancel()
            await asyncio.gather(follow, look, return_exceptions=True)

    async def _follow(self, following: Following) -> None:
        """Subscribe and take responses in until the service ends the subscription."""
        upstream, patience = following.upstream, self._patience
        subscribe = self.channels.subscribe(upstream)
        self.subscriptions.calls += 1
        call = subscribe(self._intake.request(upstream.budget.is_spent))
        try:
            while True:
                async with asyncio.timeout(patience.silence if following.answered else patience.answer):
                    raw = await call.read()
                if not isinstance(raw, bytes):  # grpc.aio.EOF
                    return
                following.answered = True
                for _ in self._intake.take(view_pb2.SubscribeResponseView.FromString(raw)):
                    await asyncio.sleep(0)
                self.upstreams.epochs.note(self._hub.epoch)
                self._note_state(following)
        finally:
            call.cancel()

    # ------------------------------------------------------------------ what state it is in

    def _note_state(self, following: Following) -> None:
        """Pass on the state of the service's source, once everything has come that the service had."""
        source = self._intake.source
        if source is None:
            return
        state = STATES.get(source.state, State.DOWN)
        if state is not State.DOWN:
            following.down.clear()
            following.alone = False
        elif len(self.upstreams) > 1 and not following.alone:
            following.down.set()  # clients are told when it is certain that no other address is live
            return
        if self._intake.caught_up:
            self._tell(following, source, state)
        elif following.alone:
            self._set_problem(following.upstream, f"follows nothing itself: {source.detail}")
            self._tell_if_down()

    def _tell(self, following: Following, source: stream_pb2.SourceStatus, state: State) -> None:
        """Tell the state of the service's source, which is as new as can be had."""
        if source is following.source:
            return
        if following.source is None:
            self._note_success(following.upstream)
        if state is not State.DOWN:
            self.upstreams.settle_doubts()
        status, since_ms = self._hub.status, source.since_ms
        if self._told and following.source is None:
            # After an outage of our own the state began when the outage ended, whatever the source says.
            since_ms = status.since_ms if state is status.state else self._hub.clock_ms()
        self._hub.upstream_reached = True
        self._hub.set_status(state, source.detail, since_ms)
        self._told = True
        following.source = source

    def _note_success(self, upstream: Upstream) -> None:
        self.subscriptions.reconnects += self._told
        if self.upstreams.note_success(upstream):
            log.warning("the state service is followed at %s now", upstream.address)

    def _set_problem(self, upstream: Upstream, problem: str) -> None:
        if upstream.problem != problem:
            upstream.problem = problem
            log.warning("the state service at %s %s", upstream.address, problem)

    def _tell_if_down(self) -> None:
        """Tell that nothing is heard of the state service any more, if no address is of any use."""
        if self.upstreams.problem:
            self._hub.set_status(State.DOWN, self.upstreams.problem)

    # ------------------------------------------------------------------ how subscriptions end

    def _note_fault(self, following: Following, fault: str, stream: str = "") -> None:
        """Note that the service broke the protocol."""
        self.subscriptions.faults += 1
        self._blame(following, stream)
        self._fail(following, f"broke the protocol: {fault}")

    def _end(self, following: Following, error: grpc.aio.AioRpcError) -> None:
        """Note that a subscription ended with a status."""
        meaning = MEANINGS.get(error.code(), MEANINGS[grpc.StatusCode.UNKNOWN])
        if meaning.blame is Blame.YES or (meaning.blame is Blame.ANSWERED and following.answered):
            self._blame(following)
        slowly = meaning.pace is Pace.SLOWLY and not following.answered
        self._fail(following, f"{meaning.problem} ({told(error)})", slowly=slowly)

    def _fail(self, following: Following, problem: str, *, slowly: bool = False) -> None:
        """Note that an address failed, and when to try it again."""
        now = asyncio.get_running_loop().time()
        upstream = following.upstream
        if now - following.began_at >= STEADY_SECONDS:
            self.upstreams.note_steady(upstream)
        pause = upstream.backoff.next()
        upstream.ready_at = now + ((0.5 + self._random() / 2) * self._patience.slow_pause if slowly else pause)
        self._hub.upstream_reached = False
        self._set_problem(upstream, problem)
        self._tell_if_down()

    def _blame(self, following: Following, stream: str = "") -> None:
        """Note that an address failed in a way that may be due to the positions that it was asked for."""
        suspects = self._intake.suspects
        if stream in self._intake.positions:
            suspects = {stream: self._intake.positions[stream]}
        if spent := following.upstream.budget.fail(suspects):
            self.subscriptions.given_up += len(spent)
            log.error(
                "the state service at %s fails again and again behind %s: followed on from the head",
                following.upstream.address,
                ", ".join(f"{suspects[name]} of {name}" for name in spent),
            )

    # ------------------------------------------------------------------ whether positions are worth anything

    def _doubt(self, following: Following, doubted: Doubted) -> None:
        """Note that an address takes our positions for worth nothing: begin anew there, or ask elsewhere first."""
        upstream, now = following.upstream, asyncio.get_running_loop().time()
        source = self._intake.source
        wait = self.upstreams.wait_for(upstream, doubted, now, follows=source is None or source.state in STATES)
        self._hub.upstream_reached = False
        if wait <= 0:
            log.warning("the state service at %s %s: positions begin anew", upstream.address, doubted)
            self._intake.give_up(doubted)
            self.upstreams.turn_to(upstream)
            return
        self._intake.keep_positions()
        upstream.ready_at = now + min(upstream.backoff.next(), wait)
        if doubted.doubt is Doubt.EPOCH:
            upstream.problem = str(doubted)
            self._tell_if_down()
        else:  # it is well, and may catch up
            upstream.problem = ""
            self._hub.set_status(self._hub.status.state, f"the state service at {upstream.address} {doubted}")

    async def _look_elsewhere(self, following: Following) -> Upstream:
        """Return another address that is live, once the one that is followed has been down for a moment."""
        while True:
            await following.down.wait()
            await asyncio.sleep(self._patience.settle)
            while following.down.is_set():
                others = self.upstreams.after(following.upstream)
                for upstream, better in zip(others, await asyncio.gather(*map(self._is_better, others)), strict=True):
                    if better:
                        return upstream
                if following.down.is_set():
                    following.alone = True
                    self._note_state(following)
                    await asyncio.sleep(self._look_pauses.next())
            self._look_pauses.reset()

    async def _is_better(self, upstream: Upstream) -> bool:
        """Ask whether an address is live, and whether our positions are worth something there."""
        streams = await self.channels.list_streams(upstream, self._patience.look)
        if streams is None or STATES.get(streams.source.state) is not State.LIVE:
            return False
        doubted = self._intake.compare(streams.streams)
        now = asyncio.get_running_loop().time()
        if doubted is None or doubted.doubt is Doubt.BEHIND:
            return doubted is None
        return self.upstreams.wait_for(upstream, doubted, now, follows=True) <= 0
