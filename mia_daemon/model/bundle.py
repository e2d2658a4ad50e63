"""A model bundle: one directory with everything inference needs, which fits this program exactly or is refused.

    manifest.json            who made it, for which catalogue, which policies in which regime, a hash of every file
    feature_importance.csv   the 350, highest first: the first 150 are the observation, in this order
    scaler.json              centre, scale and training range of each of the 150
    policy.onnx …            "observation" (1, 157) → "action" (1, 1): 150 market values and the policy's own 7
    probability.onnx         "observation" (1, 158) → "probability" (1, 1): the same and the action
    regime.json              the two chains of detect_regime
    constants.json           fitted constants of the features (optional: the defaults of features.constants)
    histograms.npz           how each of the 150 was distributed in training: what the drift monitor compares with
    selftest.npz             inputs and what they gave where the bundle was made

Nothing in it is executed but the graphs; no file is a pickle.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from mia_daemon.errors import BundleError, MiaError
from mia_daemon.features import catalogue, shap_weighting
from mia_daemon.features.constants import FittedConstants
from mia_daemon.features.obs_template import OWN_STATE_VERSION, ObservationTemplate
from mia_daemon.model.bundle_files import read_directory
from mia_daemon.model.detect_regime import RegimeDetector, RegimeParameters
from mia_daemon.model.drift import Histograms
from mia_daemon.model.graph import Graph
from mia_daemon.model.manifest import OBSERVATION, SELECTED, Manifest, PolicySpec, Scaler
from mia_daemon.model.npz import read_arrays

TOLERANCE: Final = 1e-5
"""How far a graph may be from its self-test: other processors round float32 sums differently."""

MANIFEST: Final = "manifest.json"
IMPORTANCE: Final = "feature_importance.csv"
SCALER: Final = "scaler.json"
REGIME: Final = "regime.json"
CONSTANTS: Final = "constants.json"
HISTOGRAMS: Final = "histograms.npz"
PROBABILITY: Final = "probability.onnx"
SELFTEST: Final = "selftest.npz"

_PartT = TypeVar("_PartT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that has passed every check; the graphs are in memory, so the directory may change afterwards.

    Attributes:
        sha256: of manifest.json, which holds the hash of every other file: it names the whole bundle.
        selected: the 150 features of the observation, in its order.
        indices: (150,) intp, their places in the catalogue.
        constants: what the features were fitted to where the model was trained, for the pipeline.
        graphs: the bytes of each .onnx file by name.
    """

    path: Path
    sha256: str
    manifest: Manifest
    selected: tuple[str, ...]
    indices: NDArray[np.intp]
    scaler: Scaler
    regime: RegimeParameters
    constants: FittedConstants
    histograms: Histograms
    graphs: Mapping[str, bytes]

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def research_only(self) -> bool:
        return self.manifest.research_only

    def policy_graph(self, spec: PolicySpec, vector: NDArray[np.float32] | None = None) -> Graph:
        """A session of its own for one policy; `vector` (157,) as its input buffer, else one of its own."""
        return Graph(self.graphs[spec.file], spec.file, "observation", OBSERVATION, "action", vector)

    def probability_graph(self, vector: NDArray[np.float32] | None = None) -> Graph:
        """A session of its own; `vector` (158,) as its input buffer, else one of its own."""
        return Graph(self.graphs[PROBABILITY], PROBABILITY, "observation", OBSERVATION + 1, "probability", vector)


def shipped() -> Path:
    """The baseline bundle that comes with the package."""
    return Path(__file__).parent / "baseline"


def load(directory: Path) -> Bundle:
    """Read a bundle and check all of it: hashes, names, shapes, and that the graphs still say what they said.

    Raises:
        BundleError: with the file, what was expected, what was found and what to do.
    """
    files = read_directory(directory, MANIFEST)
    document = files.pop(MANIFEST)
    manifest, sha256 = _parse(Manifest, document, MANIFEST), hashlib.sha256(document).hexdigest()
    _check_files(directory, manifest, files)
    _check_versions(manifest)
    selected = _selected(files[IMPORTANCE])
    scaler = _parse(Scaler, files[SCALER], SCALER)
    if scaler.features != selected:
        place = next(i for i, pair in enumerate(zip(scaler.features, selected, strict=True)) if len(set(pair)) > 1)
        raise BundleError(
            f"{SCALER} lists {scaler.features[place]!r} at place {place}, where {IMPORTANCE} has {selected[place]!r}: "
            "make the bundle again, so that both come from one fit"
        )
    regime = _parse(RegimeParameters, files[REGIME], REGIME)
    RegimeDetector(regime, catalogue.index)
    constants = _parse(FittedConstants, files.get(CONSTANTS, b"{}"), CONSTANTS)
    histograms = Histograms.from_bytes(files[HISTOGRAMS], SELECTED)
    indices = np.array([catalogue.index(name) for name in selected], np.intp)
    graphs = {name: data for name, data in files.items() if name.endswith(".onnx")}
    bundle = Bundle(directory, sha256, manifest, selected, indices, scaler, regime, constants, histograms, graphs)
    _self_test(bundle, files[SELFTEST])
    return bundle


def observation_template(bundle: Bundle) -> ObservationTemplate:
    """The bundle's way from the 350 to the 150."""
    scaler = bundle.scaler
    by_regime = scaler.weights
    weights = None if by_regime is None else (by_regime.range, by_regime.trend, by_regime.defensive)
    return ObservationTemplate(
        bundle.indices, scaler.centre, scaler.scale, scaler.low, scaler.high, scaler.clip, weights
    )


def _parse(model: type[_PartT], data: bytes, file: str) -> _PartT:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        place = ".".join(map(str, finding["loc"]))
        message = finding["msg"].removeprefix("Value error, ")
        raise BundleError(
            f"{file} is refused: {place + ': ' if place else ''}{message}; make the bundle again"
        ) from error


def _check_files(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """All that belong to a bundle, no other, each as the manifest has it."""
    needed = {
        IMPORTANCE,
        SCALER,
        REGIME,
        HISTOGRAMS,
        PROBABILITY,
        SELFTEST,
        *(policy.file for policy in manifest.policies),
    }
    listed, present = set(manifest.files), set(files)
    for names, fault, remedy in (
        (needed - listed, f"{MANIFEST} does not list", "make the bundle again"),
        (listed - needed - {CONSTANTS}, f"{MANIFEST} lists a file that no bundle has:", "make the bundle again"),
        (listed - present, f"model bundle {directory} lacks", "copy the bundle again, whole"),
        (present - listed, f"model bundle {directory} has a file its manifest does not know:", "remove it"),
    ):
        if names:
            raise BundleError(f"{fault} {', '.join(sorted(names))}: {remedy}")
    for name, data in files.items():
        found = hashlib.sha256(data).hexdigest()
        if found != manifest.files[name]:
            raise BundleError(
                f"{directory / name} was altered: sha256 is {found[:16]}…, {MANIFEST} says "
                f"{manifest.files[name][:16]}…: copy the bundle again, whole"
            )


def _check_versions(manifest: Manifest) -> None:
    expected = catalogue.sha256()
    if manifest.catalogue_sha256 != expected:
        raise BundleError(
            f"{MANIFEST}: the bundle was made for the feature catalogue {manifest.catalogue_sha256[:16]}…, "
            f"this program has {expected[:16]}…: make the bundle again with this version"
        )
    if manifest.own_state_version != OWN_STATE_VERSION:
        raise BundleError(
            f"{MANIFEST}: the policy's own state has version {manifest.own_state_version}, this program has "
            f"{OWN_STATE_VERSION}: make the bundle again with this version"
        )


def _selected(content: bytes) -> tuple[str, ...]:
    try:
        return tuple(shap_weighting.select(content, IMPORTANCE, SELECTED))
    except MiaError as error:
        raise BundleError(f"{IMPORTANCE} is refused: {error}") from error


def _self_test(bundle: Bundle, data: bytes) -> None:
    """Run the recorded inputs and compare with what they gave where the bundle was made."""
    test = _self_test_arrays(bundle, data)
    detector = RegimeDetector(bundle.regime, catalogue.index)
    template = observation_template(bundle)
    functions = [bundle.policy_graph(spec) for spec in bundle.manifest.policies]
    probability = bundle.probability_graph()
    for row, (values, ts_ns) in enumerate(zip(test["values"], test["ts_ns"], strict=True)):
        regime = detector.step(values, int(ts_ns))
        _compare(REGIME, row, test["regime"][row], np.array(regime))
        _compare(SCALER, row, test["market"][row], template(values, regime)[0])
        for column, function in enumerate(functions):
            _compare(function.file, row, test["action"][row, column], function(test["observation"][row]))
        vector = np.append(test["observation"][row], test["taken"][row])
        _compare(PROBABILITY, row, test["probability"][row], probability(vector))


def _self_test_arrays(bundle: Bundle, data: bytes) -> dict[str, NDArray[Any]]:
    policies = len(bundle.manifest.policies)
    test = read_arrays(data, SELFTEST)
    rows = len(test.get("ts_ns", ()))
    expected = {
        "values": (rows, len(catalogue.FEATURES)),
        "ts_ns": (rows,),
        "regime": (rows, 3),
        "market": (rows, SELECTED),
        "observation": (rows, OBSERVATION),
        "action": (rows, policies),
        "taken": (rows,),
        "probability": (rows,),
    }
    found = {name: array.shape for name, array in test.items()}
    if rows == 0 or found != expected:
        raise BundleError(f"{SELFTEST} must hold at least one row of {expected}, found {found}: make the bundle again")
    return test


def _compare(file: str, row: int, expected: Any, found: Any) -> None:
    apart = float(np.max(np.abs(np.asarray(expected, np.float64) - np.asarray(found, np.float64))))
    if not apart <= TOLERANCE:  # also refuses NaN
        raise BundleError(
            f"{file} does not reproduce self-test vector {row}: expected {np.ravel(expected)[:3]}, "
            f"found {np.ravel(found)[:3]}, {apart:.2g} apart: make the bundle again with this version"
        )


def write(directory: Path, parts: Mapping[str, bytes], manifest: Mapping[str, Any]) -> Bundle:
    """Make a bundle of `parts` (file name to content) and `manifest`, which may leave out versions and hashes.

    The bundle is made beside `directory`, checked as `load` does, and then takes its name: whoever looks sees the old
    bundle, none for an instant, or the whole new one.

    Raises:
        BundleError: what was made would be refused by `load`; nothing is left behind.
    """
    document = Manifest.model_validate(
        {
            "catalogue_sha256": catalogue.sha256(),
            "own_state_version": OWN_STATE_VERSION,
            **manifest,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(parts.items())},
        }
    )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as scratch:
        made, old = Path(scratch, "new"), Path(scratch, "old")
        made.mkdir()
        for name, data in parts.items():
            (made / name).write_bytes(data)
        (made / MANIFEST).write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")
        bundle = load(made)
        if directory.exists():
            directory.rename(old)
        made.rename(directory)
    return replace(bundle, path=directory)
