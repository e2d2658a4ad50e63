"""Make the baseline bundle: linear models of the simulator's market, honest about what they are.

    python -m mia_daemon.training.baseline --out DIR [--seed 7] [--episodes 14]

The market generator of the simulator runs through the feature pipeline, with constants fitted to it (`constants_fit`);
`baseline_fit` fits; what comes out is checked as any bundle is. It is fitted to a simulated market, so it says nothing
about a real one: research_only, always. Run it again whenever the feature catalogue changes: a bundle made for another
one is refused.
"""

import argparse
import csv
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon import __version__
from mia_daemon.config import FeatureSettings, InstrumentSettings
from mia_daemon.errors import MiaError
from mia_daemon.features import catalogue
from mia_daemon.model import bundle
from mia_daemon.model.detect_regime import RegimeDetector
from mia_daemon.model.drift import Histograms
from mia_daemon.model.manifest import OWN_STATE, Scaler
from mia_daemon.products.instruments import instrument
from mia_daemon.training.baseline_fit import CLIP, Fitted, fit, sided
from mia_daemon.training.labels import LabelledRecording
from mia_daemon.training.linear_models import Floats, sigmoid
from mia_daemon.training.onnx_graphs import sided_logistic, tanh_policy

LONG_HOURS: Final = 12.0  # through the daily halt
SHORT_HOURS: Final = 1.5  # what a newcomer sees first
CONSTANTS_HOURS: Final = 2.0  # the beginning of the first episode, which models are fitted to as well


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mia_daemon.training.baseline", description="Make the baseline.")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's directory; an older bundle is replaced")
    parser.add_argument("--seed", type=int, default=7, help="of the simulated markets")
    parser.add_argument("--episodes", type=int, default=14, help="markets: one of 12 h, the others of 1.5 h")
    options = parser.parse_args(arguments)
    try:
        made = make(options.out, options.seed, options.episodes)
    except (MiaError, ValueError) as error:
        print(f"baseline: {error}", file=sys.stderr)  # noqa: T201  a script speaks to its terminal
        return 1
    print(json.dumps({"bundle": str(made.path), "sha256": made.sha256, **made.manifest.metrics}, indent=2))  # noqa: T201
    return 0


def make(out: Path, seed: int, episodes: int) -> bundle.Bundle:
    """Record, fit, write. Raises ValueError when there are too few episodes to split them in time."""
    from mia_daemon.features import cache
    from mia_daemon.products.trading_calendar import TradingCalendar
    from mia_daemon.training import simulated_market as market
    from mia_daemon.training.constants_fit import fit_constants

    cache.use_cache()
    traded = instrument(InstrumentSettings().symbol)
    interval_s, warmup_s = FeatureSettings().decision_interval_s, FeatureSettings().warmup_s
    plan = [market.Episode(1000 * seed, LONG_HOURS)]
    plan += [market.Episode(1000 * seed + number, SHORT_HOURS) for number in range(1, episodes)]
    calendar = TradingCalendar.load()
    beginning = market.Episode(plan[0].seed, CONSTANTS_HOURS)
    constants = fit_constants(np.concatenate(list(market.episode_events(beginning, traded, calendar))), traded)
    recording = market.record(plan, traded, interval_s, warmup_s, calendar, constants=constants)
    parts, manifest = assemble(fit(recording, traded, interval_s), recording, interval_s, seed)
    parts[bundle.CONSTANTS] = constants.model_dump_json(indent=1).encode()
    return bundle.write(out, parts, manifest)


def assemble(
    fitted: Fitted, recording: LabelledRecording, interval_s: float, seed: int
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bundle's files and its manifest, for `bundle.write`; the constants of the features are the defaults."""
    weights = np.concatenate([fitted.policy.weights, np.zeros(OWN_STATE)])
    market_weights, conviction = fitted.probability.weights[:-1], float(fitted.probability.weights[-1])
    scale = fitted.scale
    scaler = Scaler(
        features=fitted.selected,
        centre=_float32(scale.centre),
        scale=_float32(scale.scale),
        low=_float32(scale.low),
        high=_float32(scale.high),
        clip=CLIP,
    )
    parts = {
        bundle.IMPORTANCE: _importance_csv(fitted.importance),
        bundle.SCALER: scaler.model_dump_json(indent=1).encode(),
        bundle.REGIME: fitted.regime.model_dump_json(indent=1).encode(),
        "policy.onnx": tanh_policy(weights, fitted.policy.bias),
        bundle.PROBABILITY: sided_logistic(market_weights, conviction, fitted.probability.bias),
    }
    manifest = {
        "name": f"baseline-{seed}",
        "kind": "baseline",
        "created_by": f"mia_daemon.training.baseline {__version__}, seed {seed}",
        "research_only": True,
        "decision_interval_s": interval_s,
        "policies": [{"name": "baseline", "file": "policy.onnx"}],
        "probability": fitted.calibration.model_dump(),
        "metrics": dict(fitted.metrics),
    }
    parts[bundle.SELFTEST] = _selftest(fitted, recording)
    columns = recording.values[:, [catalogue.index(name) for name in fitted.selected]]
    parts[bundle.HISTOGRAMS] = npz(**asdict(Histograms.of(columns)))
    return parts, manifest


def _float32(values: Floats) -> tuple[float, ...]:
    """What float32 makes of them, so that the file says exactly what runs."""
    return tuple(values.astype(np.float32).astype(np.float64).tolist())


def _importance_csv(importance: Sequence[tuple[str, float]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("feature", "shap_value"))
    writer.writerows((name, f"{value:.9g}") for name, value in importance)
    return text.getvalue().encode()


def _selftest(fitted: Fitted, recording: LabelledRecording) -> bytes:
    """Rows of the recording, some in a row, some far apart, and what numpy makes of them: the bundle has to agree."""
    middle = len(recording) // 2
    rows = np.array([0, middle // 2, middle, middle + 1, middle + 2, middle + 3, middle + 200, len(recording) - 1])
    values, ts_ns = recording.values[rows], recording.ts_ns[rows]
    detector = RegimeDetector(fitted.regime, catalogue.index)
    regime = np.array([detector.step(row, int(at)) for row, at in zip(values, ts_ns, strict=True)])
    scaled = fitted.scale.apply(values[:, [catalogue.index(name) for name in fitted.selected]], CLIP)
    own = np.zeros((len(rows), OWN_STATE))
    own[1::2, 0] = 1.0  # every other row holds a position
    action = np.tanh(fitted.policy(scaled))
    return npz(
        values=values,
        ts_ns=ts_ns,
        regime=regime,
        market=scaled.astype(np.float32),
        observation=np.column_stack([scaled, own]).astype(np.float32),
        action=action[:, None].astype(np.float32),
        taken=action.astype(np.float32),
        probability=sigmoid(fitted.probability(sided(scaled, action))).astype(np.float32),
    )


def npz(**arrays: NDArray[Any]) -> bytes:
    """A numpy archive whose bytes depend on its content alone, not on the time it was made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), data.getvalue(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
