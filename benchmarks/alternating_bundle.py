"""A bundle whose policy goes long when flat and closes when long, so that every decision makes an order.

The graphs have the size of the baseline's; only their weights differ, so the path costs what it costs in earnest.
"""

import io
from pathlib import Path

import numpy as np

from mia_daemon.model import bundle
from mia_daemon.model.manifest import OBSERVATION, SELECTED
from mia_daemon.products.instruments import instrument
from mia_daemon.training import baseline
from mia_daemon.training.baseline_fit import fit
from mia_daemon.training.onnx_graphs import sided_logistic, tanh_policy
from mia_daemon.training.synthetic import synthetic_recording

_GAIN = 8.0
_LOGIT = 5.0


def write(directory: Path) -> None:
    """Make the bundle in `directory`."""
    recording = synthetic_recording(seed=5, rows=8000)
    parts, manifest = baseline.assemble(fit(recording, instrument("ESZ26_FUT_CME"), 5.0), recording, 5.0, 5)
    weights = np.zeros(OBSERVATION)
    weights[SELECTED] = -_GAIN  # the first of the policy's own four: position / max_position
    parts["policy.onnx"] = tanh_policy(weights, _GAIN / 2)
    parts[bundle.PROBABILITY] = sided_logistic(np.zeros(SELECTED), 0.0, _LOGIT)
    test = dict(np.load(io.BytesIO(parts[bundle.SELFTEST])))
    action = np.tanh(_GAIN / 2 - _GAIN * test["observation"][:, SELECTED]).astype(np.float32)
    chance = np.full(len(action), 1 / (1 + np.exp(-_LOGIT)), np.float32)
    parts[bundle.SELFTEST] = baseline.npz(**{**test, "action": action[:, None], "taken": action, "probability": chance})
    manifest.update(name="alternating", kind="benchmark", created_by="benchmarks.alternating_bundle", probability={})
    bundle.write(directory, parts, manifest)
