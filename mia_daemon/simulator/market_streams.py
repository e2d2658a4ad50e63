"""What markets do, as bytes for each client that is subscribed; equal streams are encoded once."""

from collections.abc import Iterable, Mapping

from mia_daemon.dtc.encodings import Codec
from mia_daemon.simulator.depth_view import DepthViews
from mia_daemon.simulator.exchange import Exchange
from mia_daemon.simulator.market_messages import Dialect, Subscriptions, market_stream
from mia_daemon.simulator.market_subscriptions import MarketSubscriptions
from mia_daemon.simulator.tape import MarketEvent, SymbolEvents

_ByLevels = Mapping[int | None, list[MarketEvent]]  # events by the depth levels that a client sees; None: all


class MarketStreams:
    """Makes the streams of one exchange.

    Attributes:
        views: of the books of all traded symbols, by symbol.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.views = {symbol: DepthViews(market) for symbol, market in exchange.markets.items()}
        self._instruments = exchange.instruments
        self._market: list[tuple[str, _ByLevels]] = []
        self._made: dict[tuple[object, ...], bytes] = {}

    def follow(self, market: list[SymbolEvents], clients: Iterable[MarketSubscriptions]) -> None:
        """Take what happened; it has to be called with all of it, in order.

        Args:
            market: what happened, in order of time.
            clients: all of them, whether or not anything of it is for them.
        """
        wanted: dict[str, set[int]] = {symbol: set() for symbol in self.views}
        for client in clients:
            for symbol, ids in client.ids.items():
                if ids.levels is not None:
                    wanted[symbol].add(ids.levels)
        self._made.clear()
        self._market = []
        for symbol, events in market:
            seen = self.views[symbol].follow(events, wanted[symbol]) if symbol in self.views else {}
            self._market.append((symbol, {None: events, **seen}))

    def stream(self, client: MarketSubscriptions, codec: Codec) -> bytes:
        """What was last followed, for one client."""
        key = (codec, client.dialect, *client.ids.items())
        if key not in self._made:
            self._made[key] = codec.from_binary(self._encode(client.dialect, client.ids))
        return self._made[key]

    def _encode(self, dialect: Dialect, subscribed: Mapping[str, Subscriptions]) -> bytes:
        return b"".join(
            market_stream(events[ids.levels], dialect, ids, self._instruments[symbol].tick_size)
            for symbol, events in self._market
            if (ids := subscribed.get(symbol)) is not None
        )
