"""Features outlive the run: state kept, resumed, recorded and replayed; missing inputs told."""

import asyncio
import sqlite3
import threading
import tomllib
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from daemon_process import PROJECT

from mia_daemon.config import Mode, Settings, VarPaths, parse
from mia_daemon.daemon.feature_keeper import FeatureKeeper
from mia_daemon.daemon.replay import replay
from mia_daemon.errors import StartError
from mia_daemon.features import catalogue, state_file
from mia_daemon.features.catalogue import Inputs, index
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.state_file import RegimeState
from mia_daemon.feed.recorder import Recorder
from mia_daemon.model import bundle, memory_file
from mia_daemon.model.inference import Inference
from mia_daemon.model.market_memory import REMEMBERED, Experience, MarketMemory
from mia_daemon.products.instruments import instrument
from mia_daemon.records import EventKind, Priority, empty_events

S = 1_000_000_000
START = 1_795_532_400 * S  # a Tuesday, 09:00 in Chicago
ES = instrument("ESZ26_FUT_CME")
MODEL = ("atr_14", "l1_imb", "lvl_imb_1")


class Log:
    def __init__(self):
        self.lines = []

    def info(self, event, **facts):
        self.lines.append((event, facts))

    warning = info


def trades(n=3000, seconds=1500.0, seed=4):
    rng = np.random.default_rng(seed)
    events = empty_events(n)
    events["ts_ns"] = events["recv_ns"] = (
        START + np.sort(rng.uniform(0, seconds * S, n)).astype(np.int64) // 1000 * 1000
    )
    events["kind"], events["count"] = EventKind.TRADE, 1
    events["side"] = rng.choice([-1, 1], n)
    events["bid"] = 6000 + 0.25 * rng.choice([-1, 0, 1], n).cumsum()
    events["ask"] = events["bid"] + 0.25
    events["price"] = np.where(events["side"] > 0, events["ask"], events["bid"])
    events["size"] = rng.integers(1, 9, n)
    return events


EVENTS = trades()


def pipeline():
    return FeaturePipeline(ES, 5.0, None, 0.0)


@pytest.fixture(scope="module")
def shipped():
    return bundle.load(bundle.shipped())


@pytest.fixture
def keeper(tmp_path, shipped):
    def made(path=tmp_path / "features.bin", max_gap_s=None):
        alerts = []
        log = Log()
        inference = Inference(shipped, MarketMemory(ES.tick_size, ES.point_value))
        kept = FeatureKeeper(pipeline(), inference, path, max_gap_s, MODEL, log, alerts.append, lambda: START)
        return kept, log.lines, alerts

    return made


def values(windows):
    return [window.values.tobytes() for window in windows if window.due]


# --------------------------------------------------------------------------------------------------------------- state


def test_the_next_run_goes_on_where_this_one_stood(keeper, shipped):
    first, *_ = keeper()
    first.resume()
    assert first.resumed is None
    before = values(first.pipeline.push(EVENTS[:1700], 0))
    first.save()
    regime = RegimeState(shipped.sha256, 0.2, 0.7, START)
    first.inference.resume(regime)
    first.save()
    second, log, alerts = keeper()
    second.resume()
    assert second.inference.regime == regime
    assert [event for event, _ in log] == ["features_resumed"]
    assert second.resumed.heard_ns == EVENTS["ts_ns"][1699]
    assert before + values(second.pipeline.push(EVENTS[1700:], 0)) == values(pipeline().push(EVENTS, 0))
    assert alerts == []


def test_a_run_that_can_not_resume_says_why_and_begins_anew(keeper, tmp_path):
    kept, log, alerts = keeper()
    kept.resume()
    (tmp_path / "features.bin").write_bytes(b"nonsense")
    kept.resume()
    assert [event for event, _ in log] == ["features_begin_anew"] * 2
    assert "can't be read" in log[0][1]["reason"]
    assert "damaged" in log[1][1]["reason"]
    assert kept.resumed is None
    assert alerts == []


def test_it_is_saved_again_and_again_and_a_full_disk_is_told(keeper, monkeypatch):
    kept, _, alerts = keeper()
    kept.pipeline.push(EVENTS[:1000], 0)
    newest = []

    def write(path, state):
        """Two that fit, one that doesn't, and the end."""
        newest.append(state.newest_ns)
        if len(newest) == 3:
            raise StartError("no space left: set features.state_every_s to 0")
        if len(newest) == 4:
            raise EOFError
        kept.pipeline.push(EVENTS[1000 * len(newest) : 1000 * len(newest) + 1000], 0)

    monkeypatch.setattr(state_file, "write", write)
    threads = []
    kept.tell = lambda alert: (alerts.append(alert), threads.append(threading.current_thread()))
    with pytest.raises(EOFError):
        asyncio.run(kept.keep(0.001))
    assert threads == [threading.main_thread()]  # the journal, which gets the alert, is used by no other thread
    assert newest == [EVENTS["ts_ns"][i] for i in (999, 1999, 2999, 2999)]
    (alert,) = alerts
    assert (alert.code, alert.priority) == ("features_not_saved", Priority.WARNING)


def test_nothing_is_kept_when_nothing_is_to_be_or_nothing_came(keeper, tmp_path):
    kept, log, _ = keeper(path=None)
    kept.pipeline.push(EVENTS[:100], 0)
    kept.resume()
    kept.save()
    empty, *_ = keeper()
    empty.save()
    assert log == []
    assert list(tmp_path.iterdir()) == []


def test_each_mode_and_source_has_a_state_of_its_own(tmp_path):
    paths = VarPaths(tmp_path)
    states = {paths.features_state(mode, source) for mode in Mode for source in ("simulator", "dtc", "scid")}
    assert len(states) == 9


# ---------------------------------------------------------------------------------------------------- recorded sessions


def settings() -> Settings:
    limits = tomllib.loads((PROJECT / "etc" / "mia.toml").read_text())["risk"]
    return parse({"risk": limits, "features": {"warmup_s": 300.0}, "model": {"max_out_of_range_share": 1.0}}, "test")


def cold_decisions(var):
    with closing(sqlite3.connect(var / "journal" / "replay.db")) as journal:
        return journal.execute("SELECT count(*) FROM decisions WHERE reason = 'warming_up'").fetchone()[0]


def test_a_replay_begins_with_the_state_its_session_began_with(keeper, tmp_path):
    kept, *_ = keeper(max_gap_s=60.0)
    kept.pipeline = pipeline_with_calendar()
    kept.pipeline.push(EVENTS[:1700], 0)
    kept.save()
    kept.pipeline = pipeline_with_calendar()
    kept.resume()
    recording = tmp_path / "recording"
    recorder = Recorder(recording, ES.symbol, START, lambda _alert: None)
    recorder.append(EVENTS[1700:])
    recorder.close()
    cold = replay(settings(), recording, VarPaths(tmp_path / "cold"))
    kept.copy_to(recording)
    warm = replay(settings(), recording, VarPaths(tmp_path / "warm"))
    assert cold.decisions == warm.decisions > 50
    assert cold_decisions(tmp_path / "cold") > 50
    assert cold_decisions(tmp_path / "warm") == 0
    again = replay(settings(), recording / "events-000001.bin", VarPaths(tmp_path / "again"))
    assert again.decisions_sha256 == warm.decisions_sha256 != cold.decisions_sha256


def test_a_replay_begins_with_the_memory_its_session_began_with(keeper, tmp_path):
    kept, *_ = keeper()
    kept.pipeline = pipeline_with_calendar()
    kept.pipeline.push(EVENTS[:1700], 0)
    kept.save()
    kept.resume()
    recording = tmp_path / "recording"
    recorder = Recorder(recording, ES.symbol, START, lambda _alert: None)
    recorder.append(EVENTS[1700:])
    recorder.close()
    kept.copy_to(recording)
    remembers_nothing = replay(settings(), recording, VarPaths(tmp_path / "nothing"))
    known = [Experience("r1-1", START - S, np.zeros(len(REMEMBERED), np.float32), -1.0)]
    memory_file.write(recording / memory_file.FILE_NAME, known)
    one, two = (replay(settings(), recording, VarPaths(tmp_path / name)) for name in ("one", "two"))
    assert one.decisions_sha256 == two.decisions_sha256 != remembers_nothing.decisions_sha256
    assert not (tmp_path / "one" / "market_memory.db").exists()


def pipeline_with_calendar():
    from mia_daemon.products.trading_calendar import TradingCalendar

    """As a run with the shipped bundle has it."""
    constants = bundle.load(bundle.shipped()).constants
    return FeaturePipeline(ES, 5.0, TradingCalendar.load(), 300.0, constants=constants)


def test_a_recorded_state_of_another_version_and_a_damaged_memory_are_left_out_and_said(keeper, tmp_path):
    kept, *_ = keeper()
    kept.pipeline.push(EVENTS[:1700], 0)
    state = kept.pipeline.state()
    kept.resumed = replace(state, owner=replace(state.owner, kernels="another"))
    recorder = Recorder(tmp_path / "recording", ES.symbol, START, lambda _alert: None)
    recorder.append(EVENTS[1700:])
    recorder.close()
    kept.copy_to(tmp_path / "recording")
    (tmp_path / "recording" / memory_file.FILE_NAME).write_bytes(b"no database" * 100)
    said = []
    replay(settings(), tmp_path / "recording", VarPaths(tmp_path / "var"), on_progress=said.append)
    assert sum("will not be those of the recorded session" in text for text in said) == 2


def decisions(path):
    """By run, in order: what each decision was made on, and whether it had to wait for the warm-up."""
    columns = "ts_ns, bid, ask, p_range, p_trend, p_defensive, reason = 'warming_up'"
    query = f"SELECT {columns} FROM decisions WHERE decision_id LIKE ? || '-%' ORDER BY ts_ns"
    with closing(sqlite3.connect(path)) as journal:
        runs = [run for (run,) in journal.execute("SELECT run_id FROM runs ORDER BY started_ns")]
        return {run: journal.execute(query, (run,)).fetchall() for run in runs}


@pytest.mark.timeout(120)
def test_a_second_session_is_warm_at_once_and_its_recording_repeats_it(daemons, tmp_path):
    config = daemons.config(simulator={"speed": 60.0}, features={"warmup_s": 240.0})
    for _ in range(2):
        ended = daemons.run("--mode", "paper", "--config", config, "--var", tmp_path, "--for", "6s", "--quiet")
        assert ended.status == 0, ended
        assert ended.out.splitlines()[-1].startswith("time is up after")
    live = decisions(tmp_path / "journal" / "paper.db")
    first, second = live
    assert live[first][0][-1] == 1
    assert [row[-1] for row in live[second]] == [0] * len(live[second])
    assert len(live[second]) > 20
    replayed = daemons.run(
        "replay", tmp_path / "recordings" / second, "--config", config, "--var", tmp_path / "again", "--json"
    )
    assert replayed.status == 0, replayed
    (again,) = decisions(tmp_path / "again" / "journal" / "replay.db").values()
    assert again[: len(live[second])] == live[second]


# -------------------------------------------------------------------------------------------------------------- inputs


def test_the_start_tells_what_the_feed_does_not_bring(keeper):
    kept, _, alerts = keeper()
    kept.expect(Inputs(0))
    assert alerts == []
    kept.expect(Inputs.DEPTH | Inputs.SIZES | Inputs.REFERENCE)
    (alert,) = alerts
    neutral = catalogue.neutral_without(Inputs.DEPTH | Inputs.SIZES | Inputs.REFERENCE)
    assert (alert.code, alert.priority) == ("inputs_missing", Priority.WARNING)
    assert alert.text == (
        f"the feed brings no depth, no reference, no sizes: {len(neutral)} features keep their neutral value, "
        "2 of them among the model's 3"
    )
    assert alert.context == {"features": list(neutral), "of_the_model": ["l1_imb", "lvl_imb_1"]}
    kept.expect(Inputs.REFERENCE)
    assert alerts[1].priority is Priority.INFO


def test_what_stays_away_or_comes_is_told_once(keeper):
    kept, log, alerts = keeper()
    kept.expect(Inputs.REFERENCE)
    kept.look()  # before the first decision
    kept.pipeline.push(EVENTS[:1000], 0)
    for _ in range(3):
        kept.look()
    assert [alert.text.partition(":")[0] for alert in alerts] == [
        "the feed brings no reference",
        "the feed brings no depth, no reference, no calendar, no sizes",
    ]
    assert kept.pipeline.quality & catalogue.Quality.NO_DEPTH
    complete = kept.pipeline.quality & ~(
        catalogue.Quality.NO_DEPTH
        | catalogue.Quality.NO_SIZES
        | catalogue.Quality.NO_REFERENCE
        | catalogue.Quality.NO_CALENDAR
    )
    kept.pipeline = type("Pipeline", (), {"quality": complete, "decisions": 1})()
    kept.look()
    assert log[-1][0] == "inputs_complete"
    assert len(alerts) == 2


def test_a_stale_or_cold_moment_tells_nothing(keeper):
    kept, _, alerts = keeper()
    timer = empty_events(1)
    timer["kind"], timer["ts_ns"] = EventKind.TIMER, EVENTS["ts_ns"][999] + 100 * S
    kept.pipeline.push(np.concatenate([EVENTS[:1000], timer]), 0)
    kept.look()
    assert alerts == []
    assert index("stale_s") == 347
