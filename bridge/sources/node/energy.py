"""Energy: the energy market, from the providers that the node lists."""

import msgspec

from bridge.sources.node.client import NodeClient, NodeUnusable
from bridge.sources.node.outlet import Outlet
from generated.theblock.state.v1 import energy_pb2


class Provider(msgspec.Struct):
    """A provider as the node shows it."""

    capacity_kwh: float
    available_kwh: float
    price_per_kwh: float


class _Market(msgspec.Struct):
    providers: list[Provider]


_decode_market = msgspec.json.Decoder(_Market).decode


def summary(providers: list[Provider]) -> energy_pb2.EnergyUpdate:
    """Return what the providers offer together; the node knows no bids, so demand is left out."""
    capacity = sum(provider.capacity_kwh for provider in providers)
    update = energy_pb2.EnergyUpdate(
        total_supply=sum(provider.available_kwh for provider in providers), providers=len(providers)
    )
    if capacity > 0:
        update.price = sum(provider.price_per_kwh * provider.capacity_kwh for provider in providers) / capacity
    return update


class Energy:
    """Asks for the market and publishes it, on change.

    Args:
        client: asks the node.
        outlet: publishes.
    """

    def __init__(self, client: NodeClient, outlet: Outlet) -> None:
        self._client = client
        self._outlet = outlet

    def begin_chain(self) -> None:
        """Publish anew, since a new epoch begins."""
        self._outlet.forget()

    async def read(self) -> None:
        """Ask once.

        Raises:
            UpstreamError: the node does not do what was asked; with error -33009 it wants a token.
        """
        result = await self._client.ask("energy.market_state", {})
        try:
            market = _decode_market(result)
        except msgspec.DecodeError as error:
            raise NodeUnusable(f"the answer to energy.market_state is not as it must be: {error}") from error
        self._outlet.put(summary(market.providers))

    def forget(self) -> None:
        """Nothing is kept: the stream is silent while the node does not answer."""
