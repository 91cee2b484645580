"""The simulated market: one order book with price-time priority, partial fills and cancellations.

Quantities and prices are whole hundredths inside, so that what is filled is exactly what was traded.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from bridge.sources.simulation.chance import Chance
from generated.theblock.state.v1 import trading_pb2

TRADED = "BLOCK"
"""The token that is traded."""

BOOK = 16
"""How many orders are open at most; beyond that the oldest is cancelled."""

ORDERS = 20
"""How many orders an update lists: all open ones, and those that ended or came and went since the last update."""

EXECUTIONS = 20
"""How many executions an update lists."""

DAY_MINUTES = 24 * 60


@dataclass(slots=True)
class Order:
    """An offer; `qty`, `filled` and `price` are hundredths."""

    number: int
    buys: bool
    qty: int
    price: int
    timestamp: int  # Unix milliseconds
    filled: int = 0
    cancelled: bool = False

    @property
    def open(self) -> bool:
        """Whether it can still trade."""
        return self.filled < self.qty and not self.cancelled

    @property
    def status(self) -> str:
        """What a client is told."""
        if self.filled == self.qty:
            return "filled"
        if self.cancelled:
            return "cancelled"
        return "partial" if self.filled else "open"


class Execution(NamedTuple):
    """A trade between two orders; `qty` and `price` are hundredths."""

    number: int
    buy: int  # number of the order
    sell: int
    qty: int
    price: int
    timestamp: int  # Unix milliseconds


class Market:
    """The order book and what was traded lately.

    Attributes:
        orders: the open orders and those that ended in the last `trade`, oldest first.
        executions: the last trades, oldest first.
        last_price: of the newest trade, hundredths; None before the first.
    """

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.executions: deque[Execution] = deque(maxlen=EXECUTIONS)
        self.last_price: int | None = None
        self._middle = 10_000  # the price that orders are placed around
        self._placed = self._executed = 0
        self._volume: deque[tuple[int, int]] = deque()  # (minute, qty), the last 24 hours

    def trade(self, chance: Chance, count: int, time_ms: int) -> bool:
        """Place `count` orders, at most four, and let them trade; now and then an order is cancelled.

        Returns:
            Whether anything changed.
        """
        assert count <= ORDERS - BOOK
        before = len(self.orders)
        self.orders = [order for order in self.orders if order.open]
        cancels = bool(self.orders) and chance.happens(0.05)
        if cancels:
            self.orders[chance.below(len(self.orders))].cancelled = True
        for _ in range(count):
            self._middle = chance.walk(self._middle, 1_000, 100_000, 15)
            self._place(chance, time_ms)
        return count > 0 or cancels or len(self.orders) != before

    def _place(self, chance: Chance, time_ms: int) -> None:
        buys = chance.happens(0.5)
        price = self._middle + (-1 if buys else 1) * (chance.below(120) - 40)
        self._placed += 1
        order = Order(self._placed, buys, 100 * (1 + chance.skewed(50)), price, time_ms)
        rivals = [other for other in self.orders if other.open and other.buys != buys]
        rivals.sort(key=lambda other: (-other.price if other.buys else other.price, other.number))
        for other in rivals:
            if not order.open or (order.price < other.price if buys else order.price > other.price):
                break
            self._execute(order, other, time_ms)
        if order.open and sum(other.open for other in self.orders) >= BOOK:
            next(other for other in self.orders if other.open).cancelled = True
        self.orders.append(order)

    def _execute(self, order: Order, other: Order, time_ms: int) -> None:
        """Trade as much as both orders have, at the price of the one that was there first."""
        qty = min(order.qty - order.filled, other.qty - other.filled)
        order.filled += qty
        other.filled += qty
        buy, sell = (order, other) if order.buys else (other, order)
        self._executed += 1
        self.executions.append(Execution(self._executed, buy.number, sell.number, qty, other.price, time_ms))
        self.last_price = other.price
        minute = time_ms // 60_000
        if self._volume and self._volume[-1][0] == minute:
            qty += self._volume.pop()[1]
        self._volume.append((minute, qty))

    def volume_24h(self, time_ms: int) -> int:
        """Return the quantity traded in the last 24 hours, to the minute, in hundredths."""
        oldest = time_ms // 60_000 - DAY_MINUTES
        while self._volume and self._volume[0][0] <= oldest:
            self._volume.popleft()
        return sum(qty for _, qty in self._volume)

    def payload(self, time_ms: int) -> trading_pb2.TradingUpdate:
        """Return the state of the market as it is published."""
        last = None if self.last_price is None else self.last_price / 100
        return trading_pb2.TradingUpdate(
            orders=order_messages(self.orders),
            executions=[
                trading_pb2.Execution(
                    id=f"e{trade.number}",
                    buy_order_id=f"o{trade.buy}",
                    sell_order_id=f"o{trade.sell}",
                    qty=trade.qty / 100,
                    price=trade.price / 100,
                    timestamp=trade.timestamp,
                )
                for trade in self.executions
            ],
            volume_24h=self.volume_24h(time_ms) / 100,
            last_price=last,
        )


def order_messages(orders: Iterable[Order]) -> list[trading_pb2.Order]:
    """Return orders as they are published."""
    return [
        trading_pb2.Order(
            id=f"o{order.number}",
            token=TRADED,
            side="buy" if order.buys else "sell",
            qty=order.qty / 100,
            price=order.price / 100,
            filled=order.filled / 100,
            status=order.status,
            timestamp=order.timestamp,
        )
        for order in orders
    ]
