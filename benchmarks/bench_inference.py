"""One prediction, part by part: graph by run, by io-binding and in numpy; regime; observation; the whole."""

import time
from collections.abc import Callable

import numpy as np

from mia_daemon.features import catalogue
from mia_daemon.model import bundle
from mia_daemon.model.detect_regime import RegimeDetector
from mia_daemon.model.inference import Inference
from mia_daemon.model.manifest import OBSERVATION
from mia_daemon.model.market_memory import CAPACITY, REMEMBERED, Experience, MarketMemory
from mia_daemon.model.onnx_session import open_session
from mia_daemon.products.instruments import instrument
from mia_daemon.records import AccountState, FeatureWindow, RegimeProbs, empty_events

SECONDS = 0.8
STEP_NS = 5_000_000_000


def microseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Median and 99th percentile of one call, over `SECONDS`."""
    for _ in range(200):
        call()
    taken, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return float(np.percentile(taken, 50)) / 1e3, float(np.percentile(taken, 99)) / 1e3


def windows(loaded: bundle.Bundle) -> Callable[[], FeatureWindow]:
    """Ever new windows: the training range's middle, disturbed, one decision apart."""
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1, (64, catalogue.COUNT)).astype(np.float32)
    rows[:, loaded.indices] = np.array(loaded.scaler.centre) + rows[:, loaded.indices] * np.array(loaded.scaler.scale)
    no_events, seq = empty_events(0), 0

    def following() -> FeatureWindow:
        nonlocal seq
        seq += 1
        return FeatureWindow(no_events, seq, seq * STEP_NS, rows[seq % 64], warm=True)

    return following


def filled_memory() -> MarketMemory:
    """As many trades as a memory holds."""
    rng = np.random.default_rng(5)
    memory = MarketMemory(0.25, 50.0)
    markets = rng.normal(0, 1, (CAPACITY, len(REMEMBERED))).astype(np.float32)
    memory.begin_with(Experience(str(number), number, market, 0.5) for number, market in enumerate(markets))
    return memory


def main() -> None:
    start = time.perf_counter()
    loaded = bundle.load(bundle.shipped())
    print(f"load and verify the shipped bundle  {(time.perf_counter() - start) * 1e3:.0f} ms")
    following = windows(loaded)
    es = instrument("ESZ26_FUT_CME")
    account = AccountState(0, 0, 1, 6000.0, 12.5, 0.0, 1, 100_000.0, 0.0)
    policy = loaded.policy_graph(loaded.manifest.policies[0])
    probability = loaded.probability_graph()
    session = open_session(loaded.graphs["policy.onnx"])
    vector, row = np.zeros((1, OBSERVATION), np.float32), following().values
    assert row is not None
    weights = np.zeros(OBSERVATION, np.float32)
    detector = RegimeDetector(loaded.regime, catalogue.index)
    template = bundle.observation_template(loaded)
    regime = RegimeProbs(0.4, 0.4, 0.2)
    memory = filled_memory()
    inference = Inference(loaded, memory)

    def step() -> object:
        window = following()
        assert window.values is not None
        return detector.step(window.values, window.ts_ns)

    parts: dict[str, Callable[[], object]] = {
        "policy, session.run": lambda: session.run(None, {"observation": vector}),
        "policy, io-binding": policy.run,
        "policy, numpy": lambda: np.tanh(weights @ vector[0]),
        "probability, io-binding": probability.run,
        "regime": step,
        "observation": lambda: template(row, regime),
        f"recall of {len(memory)} trades": lambda: memory.recall(row, STEP_NS),
        "predict, whole": lambda: inference.predict(following(), account, es, 1),
    }
    print(f"{'':28}{'p50 µs':>8}{'p99 µs':>8}")
    for name, call in parts.items():
        half, worst = microseconds(call)
        print(f"{name:28}{half:8.1f}{worst:8.1f}")


if __name__ == "__main__":
    main()
