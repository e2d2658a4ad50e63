"""Historical prices over real connections: the client that `fetch` is, and the stand-in that serves it."""

import asyncio
import hashlib
import json
import ssl
import zlib
from contextlib import asynccontextmanager

import numpy as np
import pytest

from mia_daemon import config
from mia_daemon.clock import WallClock
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.encodings import BY_NAME
from mia_daemon.dtc.enums import EncodingEnum
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.errors import ConnectionLost, LogonRefused, RequestRefused
from mia_daemon.feed.history.archive import ScidArchive
from mia_daemon.feed.history.download import download
from mia_daemon.feed.history.records import from_scid
from mia_daemon.feed.sierra_files import SCID, SCID_RECORD, RecordWriter, read_scid, to_us
from mia_daemon.simulator.client_session import Manners
from mia_daemon.simulator.history_server import HistoryServer, HistorySession
from mia_daemon.simulator.rejects import rejects
from mia_daemon.simulator.requests import REQUESTS, Outcome

_SERVED = {
    dtc.LogonRequest, dtc.Logoff, dtc.EncodingRequest, dtc.HistoricalPriceDataRequest,
    dtc.HistoricalMarketDepthDataRequest,
}  # fmt: skip
SYMBOL = "ESZ26_FUT_CME"
START_S = 1_700_000_040


@pytest.fixture
def archive(tmp_path):
    records = np.zeros(200_000, SCID_RECORD)
    number = np.arange(len(records))
    records["time"] = to_us((START_S * 10**6 + number * 1000) * 1000)  # 200 s
    records["close"] = 6000 + number % 40 * 0.25
    records["high"], records["low"] = records["close"] + 0.25, records["close"]
    records["num_trades"] = records["total_volume"] = records["ask_volume"] = 1
    writer = RecordWriter(tmp_path / f"{SYMBOL}.scid", SCID)
    writer.append(records)
    writer.close()
    return ScidArchive(tmp_path)


@asynccontextmanager
async def served(archive, **manners):
    server = HistoryServer(archive, Manners(**manners))
    port = await server.start("127.0.0.1", 0)
    try:
        yield config.DtcSettings(history_port=port, connect_timeout_s=5.0, request_timeout_s=5.0)
    finally:
        await server.close()


@asynccontextmanager
async def answering(*pieces, close=True):
    """A server that says this, whatever it is asked."""

    async def serve(reader, writer):
        for piece in pieces:
            await reader.read(1 << 16)
            writer.write(piece)
            await writer.drain()
        if not close:
            await reader.read()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield config.DtcSettings(history_port=server.sockets[0].getsockname()[1], request_timeout_s=1.0)
    finally:
        server.close()
        await gone.wait()


async def fetched(settings, *, symbol=SYMBOL, **fields):
    parts = []
    request = dtc.HistoricalPriceDataRequest(RequestID=1, Symbol=symbol, **fields)
    found = await download(settings, request, WallClock(), parts.append)
    assert found == bool(parts)
    return np.concatenate(parts) if parts else None


@pytest.mark.parametrize("compressed", [0, 1])
async def test_ticks_arrive_as_they_lie_in_the_file(archive, tmp_path, compressed):
    async with served(archive) as settings:
        rows = await fetched(settings, UseZLibCompression=compressed)
    assert rows.tobytes() == from_scid(read_scid(tmp_path / f"{SYMBOL}.scid")).tobytes()


async def test_bars_of_a_minute_are_whole(archive):
    async with served(archive) as settings:
        rows = await fetched(settings, UseZLibCompression=1, RecordInterval=60)
    assert rows["num_trades"].tolist() == [60_000, 60_000, 60_000, 20_000]
    assert (rows["time_us"] // 10**6 - START_S).tolist() == [0, 60, 120, 180]
    assert (rows["high"] == 6009.75).all()


@pytest.mark.parametrize("interval_s", [7, 90, 86_400])
async def test_bars_of_any_whole_number_of_seconds_up_to_a_day_are_served(archive, interval_s):
    async with served(archive) as settings:
        ticks = await fetched(settings)
        rows = await fetched(settings, RecordInterval=interval_s)
    numbers, first = np.unique(ticks["time_us"] // (interval_s * 10**6), return_index=True)
    assert len(rows) == len(numbers)
    assert rows["time_us"].tolist() == ticks["time_us"][first].tolist()
    assert rows["num_trades"].sum() == len(ticks)


async def test_days_are_counted_back_from_the_last_record(archive):
    async with served(archive) as settings:
        assert len(await fetched(settings, MaxDaysToReturn=1)) == 200_000
        assert await fetched(settings, StartDateTime=START_S + 86_400, MaxDaysToReturn=1) is None


@pytest.mark.parametrize("compressed", [0, 1])
async def test_the_answer_is_801_and_803_only_also_for_ticks_and_ends_the_connection(archive, compressed):
    async with served(archive) as settings:
        reader, writer = await asyncio.open_connection("127.0.0.1", settings.history_port)
        request = dtc.HistoricalPriceDataRequest(
            RequestID=5, Symbol=SYMBOL, EndDateTime=START_S + 1, UseZLibCompression=compressed
        )
        writer.write(encode(dtc.LogonRequest(HeartbeatIntervalInSeconds=10)) + encode(request) + encode(request))
        data = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
    start = dtc.LogonResponse.LAYOUT.size + dtc.HistoricalPriceDataResponseHeader.LAYOUT.size
    records = zlib.decompress(data[start:]) if compressed else data[start:]  # zlib begins with the next byte
    types = FrameReader().feed(records).types()
    assert (types == dtc.HistoricalPriceDataRecordResponse.TYPE).all()
    assert len(types) == 1001


async def test_a_time_range_is_kept(archive):
    async with served(archive) as settings:
        rows = await fetched(settings, StartDateTime=START_S + 10, EndDateTime=START_S + 11)
        assert len(rows) == 1001
        assert await fetched(settings, StartDateTime=START_S + 10_000) is None


@pytest.mark.parametrize("encoding", BY_NAME)
@pytest.mark.parametrize("said_here", [True, False])
async def test_a_server_set_to_one_encoding_is_served_in_it(archive, tmp_path, encoding, said_here):
    async with served(archive, encoding=BY_NAME[encoding].encoding) as settings:
        known = {"encoding": encoding, "encoding_is_preset": True} if said_here else {}
        rows = await fetched(settings.model_copy(update=known), EndDateTime=START_S + 1, UseZLibCompression=1)
    assert np.array_equal(rows, from_scid(read_scid(tmp_path / f"{SYMBOL}.scid")[:1001]))


async def test_several_clients_at_once(archive):
    async with served(archive) as settings:
        answers = await asyncio.gather(*(fetched(settings, UseZLibCompression=n % 2) for n in range(4)))
    assert [len(rows) for rows in answers] == [200_000] * 4


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"symbol": "NQZ26_FUT_CME"}, "there is no NQZ26_FUT_CME.scid here"),
        ({"symbol": "../ESZ26_FUT_CME"}, "there is no ../ESZ26_FUT_CME.scid here"),
        (
            {"RecordInterval": 86_401},
            "records of 86401 s are not served: ask for ticks (0) or for bars of up to 86400 s",
        ),
        ({"RecordInterval": -1}, "records of -1 s are not served: ask for ticks (0) or for bars of up to 86400 s"),
        ({"StartDateTime": 9, "EndDateTime": 8}, "StartDateTime is later than EndDateTime"),
    ],
)
async def test_refusals_say_why(archive, fields, sentence):
    async with served(archive) as settings:
        with pytest.raises(RequestRefused) as refused:
            await fetched(settings, **fields)
    symbol = fields.get("symbol", SYMBOL)
    assert str(refused.value) == f"no historical data of {symbol}: the server refuses it: {sentence}"


async def test_the_exchange_policy_of_sierra_chart_is_told_with_the_way_out(archive):
    async with served(archive, serves_market_data=False) as settings:
        with pytest.raises(RequestRefused, match=r"Market data request not allowed.*take the \.scid from its Data"):
            await fetched(settings)


async def test_a_wrong_password_is_refused(archive):
    async with served(archive, username="me", password="secret") as settings:
        with pytest.raises(LogonRefused, match="username or password is wrong"):
            await fetched(settings)


async def test_nothing_listens():
    with pytest.raises(ConnectionLost, match=r"nothing listens at 127\.0\.0\.1:1: .*dtc\.history_port"):
        await fetched(config.DtcSettings(history_port=1))


WELCOME = encode(dtc.EncodingResponse(Encoding=EncodingEnum.BINARY_ENCODING)), encode(dtc.LogonResponse(Result=1))


async def test_a_server_that_closes_instead_of_answering():
    async with answering(*WELCOME, b"") as settings:
        with pytest.raises(ConnectionLost, match="closed the connection instead of answering"):
            await fetched(settings)


async def test_a_server_that_says_nothing():
    async with answering(*WELCOME, b"", close=False) as settings:
        with pytest.raises(ConnectionLost, match="has been silent for 1 s: is this its port for historical data"):
            await fetched(settings)


# ------------------------------------------------------------------------------------------------- the two as commands


@pytest.fixture
def simulator(daemons, tmp_path):
    """A simulator that serves `data` below `tmp_path` as history; the words that name its port to `fetch`."""

    def start(**options):
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        config_file = daemons.config(simulator={"speed": 1.0})
        process, _ = daemons.simulator(
            config_file, tmp_path / "state", **{"history-dir": data, "history-port": 0, **options}
        )
        port = json.loads(process.out.read_text())["history_port"]
        return ("--config", config_file, "--history-port", port)

    return start


def test_fetch_writes_what_the_simulator_has(simulator, daemons, tmp_path, mnq_scid):
    where = simulator()
    (tmp_path / "data" / "MNQU21-CME.scid").symlink_to(mnq_scid)
    out = tmp_path / "out.scid"
    words = ("fetch", "MNQU21-CME", "--from", "2020-01-01", "--out", out, *where)
    ended = daemons.run(*words)
    assert (ended.status, ended.out) == (0, "")
    assert ended.sentence == f"{out}: 48,737 records up to 2021-05-31T16:58:07.577000Z"
    assert out.read_bytes()[56:] == mnq_scid.read_bytes()[56:]
    assert "say --resume" in daemons.run(*words).sentence
    again = daemons.run(*words, "--resume")
    assert again.sentence == ended.sentence


def test_fetch_over_tls(simulator, daemons, tmp_path, mnq_scid, certificate):
    (*_, history_port) = simulator(**{"tls-cert": certificate / "server.crt", "tls-key": certificate / "server.key"})
    (tmp_path / "data" / "MNQU21-CME.scid").symlink_to(mnq_scid)
    out = tmp_path / "out.scid"
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert((certificate / "server.crt").read_text())).hexdigest()

    def fetch(**dtc):
        words = ("--from", "2020-01-01", "--out", out, "--history-port", history_port, "--replace")
        return daemons.run("fetch", "MNQU21-CME", *words, "--config", daemons.config("client.toml", dtc=dtc))

    for trusts in ({"tls": "verify", "tls_ca_file": str(certificate / "ca.pem")},
                   {"tls": "pinned", "tls_fingerprint_sha256": pin}):  # fmt: skip
        ended = fetch(**trusts)
        assert (ended.status, ended.sentence) == (0, f"{out}: 48,737 records up to 2021-05-31T16:58:07.577000Z")
        assert out.read_bytes()[56:] == mnq_scid.read_bytes()[56:]
        out.unlink()
    for mistrusts, says in (
        ({"tls": "verify"}, f"the certificate of 127.0.0.1:{history_port} is not accepted ("),
        ({"tls": "pinned", "tls_fingerprint_sha256": "0" * 64}, "is not the pinned one, nothing was sent"),
        ({}, "before the logon was answered: is dtc.tls as this port has it?"),
    ):
        ended = fetch(**mistrusts)
        assert ended.status == 1
        assert says in ended.sentence
        assert not list(tmp_path.glob("out*"))


def test_fetch_over_tls_from_a_plain_server_says_so(simulator, daemons, tmp_path):
    (*_, history_port) = simulator()
    pinned = {"tls": "pinned", "tls_fingerprint_sha256": "0" * 64, "connect_timeout_s": 1.0}
    client = daemons.config("client.toml", dtc=pinned)
    words = ("--from", "2020-01-01", "--out", tmp_path / "out.scid", "--history-port", history_port)
    ended = daemons.run("fetch", "MNQU21-CME", *words, "--config", client)
    assert ended.status == 1
    assert ended.sentence == (
        f"mia-daemon: 127.0.0.1:{history_port} took the connection but did not complete the TLS handshake: "
        "is this the port of its TLS server?"
    )


def test_fetch_says_refusals_in_one_sentence_and_writes_nothing(simulator, daemons, tmp_path):
    where = simulator(policy="sierra")
    out = tmp_path / "out.scid"
    ended = daemons.run("fetch", "ESZ26_FUT_CME", "--from", "2026-11-03", "--out", out, *where)
    assert ended.status == 1
    assert ended.sentence == (
        "mia-daemon: no historical data of ESZ26_FUT_CME: the server refuses it: Market data request not allowed; "
        "Sierra Chart serves no CME, EUREX, NASDAQ or CBOE data over DTC, historical data included: "
        "take the .scid from its Data folder instead"
    )
    assert not list(tmp_path.glob("out*"))
    for words, text in (
        (("--from", "yesterday"), "is no time: write 2026-11-22"),
        (("--from", "2026-11-03", "--to", "2026-11-02"), "--to has to be later than --from"),
    ):
        wrong = daemons.run("fetch", "ESZ26_FUT_CME", *words, "--out", out, *where)
        assert wrong.status == 2
        assert text in wrong.sentence


@pytest.mark.parametrize("name", ["binary", "binary_vls", "json"])
@pytest.mark.parametrize("kind", [kind for kind in REQUESTS if kind not in _SERVED])
def test_what_the_history_port_does_not_serve_is_rejected_there_and_the_connection_stays(archive, kind, name):
    codec = BY_NAME[name]
    session = HistorySession(archive, Manners())
    start = b"" if name == "binary" else encode(dtc.EncodingRequest(Encoding=codec.encoding))
    list(session.answer(start + codec.encode(dtc.LogonRequest())))
    request = kind(**({"RequestID": 7} if hasattr(kind(), "RequestID") else {}))
    told = list(codec.messages(codec.reader().feed(b"".join(session.answer(codec.encode(request))))))
    assert told == rejects(request, "only historical prices are served on this port")
    assert not session.closing
    assert bool(told) == (REQUESTS[kind].outcome is not Outcome.SILENT)
