import io
import json
import os
import re
import zipfile

import numpy as np
import pytest

from mia_daemon.errors import BundleError
from mia_daemon.features import catalogue
from mia_daemon.features.constants import DEFAULTS, FittedConstants
from mia_daemon.model import bundle, bundle_files
from mia_daemon.model.npz import MAX_BYTES
from mia_daemon.training import baseline, baseline_fit
from mia_daemon.training.onnx_graphs import sided_logistic, tanh_policy

ALL_FILES = (
    bundle.IMPORTANCE,
    bundle.SCALER,
    bundle.REGIME,
    bundle.HISTOGRAMS,
    bundle.PROBABILITY,
    bundle.SELFTEST,
    "policy.onnx",
)


def refused(copy):
    """What the refusal says: one line, without a trace of the machine's own errors."""
    with pytest.raises(BundleError) as caught:
        copy.load()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_sound_bundle_is_what_was_written(copy, made):
    parts, manifest = made
    found = copy.load()
    assert found.name == "baseline-11"
    assert found.research_only
    assert found.manifest.metrics == manifest["metrics"]
    assert len(found.selected) == 150 == len(set(found.selected))
    assert [catalogue.FEATURES[i].name for i in found.indices] == list(found.selected)
    first = parts[bundle.IMPORTANCE].decode().splitlines()[1:151]
    assert [line.split(",")[0] for line in first] == list(found.selected)
    assert found.graphs.keys() == {"policy.onnx", "probability.onnx"}


def test_its_hash_names_the_whole_bundle(copy):
    before = copy.load().sha256
    assert copy.load().sha256 == before
    copy.edit(bundle.REGIME, lambda regime: regime["volatility"].update(temper=0.25000001))
    assert copy.load().sha256 != before


def test_constants_of_the_features_are_the_defaults_unless_the_bundle_brings_others(copy):
    plain = copy.load()
    assert plain.constants == DEFAULTS
    copy.replace(bundle.CONSTANTS, FittedConstants(large_trade=7).model_dump_json().encode())
    fitted = copy.load()
    assert fitted.constants.large_trade == 7
    assert fitted.sha256 != plain.sha256
    (copy.path / bundle.CONSTANTS).write_bytes(b'{"large_trade": 8}')
    assert "constants.json was altered" in refused(copy)


def test_the_shipped_bundle_brings_all_constants():
    fitted = bundle.load(bundle.shipped()).constants
    assert [name for name, value in fitted if value == getattr(DEFAULTS, name)] == []


@pytest.mark.parametrize(
    ("content", "finding"),
    [(b'{"large_trade": NaN}', "large_trade"), (b'{"q95": 7}', "q95"), (b"[]", "object"), (b"", "JSON")],
)
def test_constants_that_make_no_sense_are_refused_in_one_sentence(copy, content, finding):
    copy.replace(bundle.CONSTANTS, content)
    text = refused(copy)
    assert text.startswith("constants.json is refused: ")
    assert finding in text


@pytest.mark.parametrize("name", ALL_FILES)
def test_one_flipped_bit_is_noticed(copy, name):
    data = bytearray((copy.path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy.path / name).write_bytes(data)
    assert re.search(rf"{name} was altered: sha256 is \w{{16}}…, manifest\.json says \w{{16}}….*copy", refused(copy))


@pytest.mark.parametrize("name", [*ALL_FILES, bundle.MANIFEST])
def test_a_missing_file_is_named(copy, name):
    (copy.path / name).unlink()
    text = refused(copy)
    assert name in text
    assert "copy the bundle again" in text or "model.bundle" in text


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_manifest_that_forgets_a_file_is_refused(copy, name):
    (copy.path / name).unlink()
    copy.sign()
    assert f"manifest.json does not list {name}" in refused(copy)


def test_a_stranger_in_the_directory_is_refused(copy):
    (copy.path / "notes.txt").write_text("hello")
    assert "notes.txt: remove it" in refused(copy)


@pytest.mark.parametrize("name", ["policy.onnx", bundle.MANIFEST, "notes.txt"])
def test_a_symbolic_link_in_the_directory_is_refused(copy, tmp_path, name):
    (copy.path / name).touch()
    target = (copy.path / name).rename(tmp_path / "elsewhere")
    (copy.path / name).symlink_to(target)
    assert f"{name} can't be read (it is a symbolic link): copy the bundle again" in refused(copy)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a named pipe", "a directory"])
def test_what_is_no_file_is_refused_and_not_waited_for(copy, make):
    (copy.path / "policy.onnx").unlink()
    make(copy.path / "policy.onnx")
    assert "policy.onnx can't be read (it is no regular file)" in refused(copy)


def test_a_link_to_a_bundle_is_followed(copy, tmp_path):
    (tmp_path / "current").symlink_to(copy.path)
    assert bundle.load(tmp_path / "current").sha256 == copy.load().sha256


def test_what_is_loaded_is_what_was_hashed_though_every_file_is_replaced_meanwhile(copy, monkeypatch):
    sound, opened = copy.load(), []
    real_open = os.open

    def open_and_replace(path, *args, **options):
        file = real_open(path, *args, **options)
        if "dir_fd" in options:
            opened.append(path)
            (copy.path / path).unlink()
            (copy.path / path).write_bytes(b"something else")
        return file

    monkeypatch.setattr(os, "open", open_and_replace)
    assert copy.load().sha256 == sound.sha256
    assert sorted(opened) == sorted([*ALL_FILES, bundle.MANIFEST])


def test_a_file_that_is_too_large_is_refused_by_its_size(copy):
    os.truncate(copy.path / "policy.onnx", bundle_files.MAX_BYTES + 1)  # a hole: it takes no room
    assert "policy.onnx has more than 64 MiB" in refused(copy)


def test_a_directory_of_many_files_is_refused(copy):
    for number in range(bundle_files.MAX_FILES):
        (copy.path / f"{number}").touch()
    assert "no bundle has more than 64" in refused(copy)


def test_a_stranger_in_the_manifest_is_refused(copy):
    (copy.path / "extra.onnx").write_bytes(b"")
    copy.sign()
    assert "extra.onnx" in refused(copy)


def test_a_directory_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere.*can't be read.*model\.bundle"):
        bundle.load(tmp_path / "nowhere")


HALF = {"range": 0.5, "trend": 0.5, "defensive": 0.5}
MANIFEST_FAULTS = {
    "another format": ({"format": 2}, "format: Input should be 1"),
    "an unknown key": ({"colour": "red"}, "colour: Extra inputs"),
    "no name": ({"name": ""}, "name"),
    "another catalogue": ({"catalogue_sha256": "0" * 64}, r"made for the feature catalogue 0{16}…, this program has"),
    "another own state": ({"own_state_version": 1}, "own state has version 1, this program has 2"),
    "no policy": ({"policies": []}, "policies"),
    "an escape": ({"policies": [{"name": "sac", "file": "../policy.onnx"}]}, "policies.0.file"),
    "too much weight": (
        {"policies": [{"name": "a", "file": "policy.onnx"}, {"name": "b", "file": "policy.onnx"}]},
        "weights in range add up to 2",
    ),
    "one name twice": (
        {"policies": [{"name": "a", "file": "policy.onnx", "weights": HALF}] * 2},
        "names must differ, found a, a",
    ),
    "a policy that is not there": ({"policies": [{"name": "ppo", "file": "policy_ppo.onnx"}]}, "policy_ppo.onnx"),
    "a negative weight": (
        {"policies": [{"name": "a", "file": "policy.onnx", "weights": {"trend": -0.1}}]}, "policies.0.weights.trend",
    ),
    "an offset out of bounds": ({"probability": {"offsets": {"trend": 3.0}}}, "probability.offsets.trend"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), MANIFEST_FAULTS.values(), ids=MANIFEST_FAULTS)
def test_a_manifest_at_fault_is_refused(copy, changes, says):
    copy.sign(**changes)
    assert re.search(says, refused(copy))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_json_object_is_refused(copy, data):
    (copy.path / bundle.MANIFEST).write_bytes(data)
    assert "manifest.json is refused" in refused(copy)


def renamed(lines):
    return [lines[0], "no_such_feature,9.9", *lines[2:]]


def twice(lines):
    return [lines[0], lines[1], lines[1], *lines[2:]]


@pytest.mark.parametrize("change", [renamed, twice, lambda lines: lines[:100], lambda _: [], lambda lines: lines[1:]])
def test_an_importance_file_that_does_not_give_150_known_features_is_refused(copy, change):
    lines = (copy.path / bundle.IMPORTANCE).read_text().splitlines()
    copy.replace(bundle.IMPORTANCE, "\n".join(change(lines)).encode())
    assert bundle.IMPORTANCE in refused(copy)


def first_two_swapped(scaler):
    scaler["features"][:2] = scaler["features"][1::-1]


SCALER_FAULTS = {
    "another order": (first_two_swapped, r"scaler\.json lists .* at place 0, where feature_importance\.csv has"),
    "149 scales": (lambda scaler: scaler["scale"].pop(), "scale"),
    "151 centres": (lambda scaler: scaler["centre"].append(0.0), "centre"),
    "a scale of zero": (lambda scaler: scaler["scale"].__setitem__(3, 0.0), "scale must be above 0"),
    "a centre that is no number": (lambda scaler: scaler["centre"].__setitem__(3, float("nan")), "centre"),
    "low above high": (lambda scaler: scaler["low"].__setitem__(3, 1e30), "low not above high"),
    "no clip": (lambda scaler: scaler.pop("clip"), "clip"),
    "another centre than at the self-test": (
        lambda scaler: scaler["centre"].__setitem__(3, scaler["centre"][3] + 0.01),
        r"scaler\.json does not reproduce self-test vector \d",
    ),
}


@pytest.mark.parametrize(("change", "says"), SCALER_FAULTS.values(), ids=SCALER_FAULTS)
def test_a_scaler_at_fault_is_refused(copy, change, says):
    copy.edit(bundle.SCALER, change)
    assert re.search(says, refused(copy))


REGIME_FAULTS = {
    "an unknown feature": (
        lambda regime: regime["direction"]["emissions"][0].update(feature="er_99m"), r"regime\.json names .*er_99m",
    ),
    "no direction": (lambda regime: regime.pop("direction"), "direction"),
    "another version": (lambda regime: regime.update(version=2), "version"),
    "other odds than at the self-test": (
        lambda regime: regime["volatility"].update(leave=[0.2, 0.1]), r"regime\.json does not reproduce self-test",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "says"), REGIME_FAULTS.values(), ids=REGIME_FAULTS)
def test_a_regime_file_at_fault_is_refused(copy, change, says):
    copy.edit(bundle.REGIME, change)
    assert re.search(says, refused(copy))


def policy_of_width(width):
    rng = np.random.default_rng(0)
    import onnx

    model = onnx.load_from_string(tanh_policy(rng.normal(size=157), 0.0))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = width
    weights = onnx.numpy_helper.from_array(np.zeros((width, 1), np.float32), "weights")
    model.graph.initializer[0].CopyFrom(weights)
    return model.SerializeToString()


def with_names(data, **names):
    for old, new in names.items():
        data = data.replace(old.encode(), new.encode())
    return data


GRAPH_FAULTS = {
    "text": ("policy.onnx", lambda _: b"not a graph", r"policy\.onnx is not an ONNX graph"),
    "nothing": ("policy.onnx", lambda _: b"", r"policy\.onnx is not an ONNX graph"),
    "half": ("policy.onnx", lambda data: data[: len(data) // 2], r"policy\.onnx is not an ONNX graph"),
    "too narrow": ("policy.onnx", lambda _: policy_of_width(154), r"one input 'observation' \(1, 157\).*found .*154"),
    "input named otherwise": ("policy.onnx", lambda data: with_names(data, observation="observatioN"), "observatioN"),
    "output named otherwise": ("policy.onnx", lambda data: with_names(data, action="Action"), "'Action'"),
    "a probability for a policy": (
        "policy.onnx", lambda _: sided_logistic(np.zeros(150), 0.0, 0.0), r"policy\.onnx must have one input",
    ),
    "a policy for a probability": (
        "probability.onnx", lambda _: tanh_policy(np.zeros(157), 0.0), r"probability\.onnx must have one input",
    ),
    "other weights": (
        "policy.onnx", lambda _: tanh_policy(np.full(157, 0.01), 0.0), r"policy\.onnx does not reproduce .* vector 0",
    ),
    "a weight that is no number": (
        "policy.onnx", lambda _: tanh_policy(np.full(157, np.nan), 0.0), r"policy\.onnx does not .* nan apart",
    ),
    "other odds": (
        "probability.onnx", lambda _: sided_logistic(np.zeros(150), 0.0, 2.0), r"probability\.onnx does not reproduce",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "says"), GRAPH_FAULTS.values(), ids=GRAPH_FAULTS)
def test_a_graph_at_fault_is_refused(copy, name, change, says):
    copy.replace(name, change((copy.path / name).read_bytes()))
    assert re.search(says, refused(copy))


def arrays(copy):
    with np.load(copy.path / bundle.SELFTEST) as archive:
        return dict(archive)


def archive_of(**content):
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    return buffer.getvalue()


def test_a_self_test_that_is_no_archive_is_refused(copy):
    copy.replace(bundle.SELFTEST, b"PK\x03\x04 and no more")
    assert "selftest.npz is no numpy archive" in refused(copy)


def packed_zeros():
    """A small archive of a large array."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, values=np.zeros(MAX_BYTES // 8 + 1))
    return buffer.getvalue()


def claiming(*shape):
    """An archive whose array says that it is larger than any machine."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("values.npy", header.getvalue())
    return buffer.getvalue()


@pytest.mark.parametrize("name", [bundle.SELFTEST, bundle.HISTOGRAMS])
def test_an_archive_that_would_fill_the_memory_is_refused(copy, name):
    copy.replace(name, packed_zeros())
    assert "unpacked has 64 MiB, 64 are allowed" in refused(copy)
    copy.replace(name, claiming(1 << 50))
    assert "no numpy archive" in refused(copy)


def test_a_pickle_in_the_self_test_is_never_opened(copy):
    copy.replace(bundle.SELFTEST, archive_of(**{**arrays(copy), "values": np.array([{"a": 1}], object)}))
    assert "selftest.npz is no numpy archive" in refused(copy)


def test_a_self_test_without_rows_is_refused(copy):
    copy.replace(bundle.SELFTEST, archive_of(**{name: array[:0] for name, array in arrays(copy).items()}))
    assert "at least one row" in refused(copy)


@pytest.mark.parametrize("missing", ["values", "action", "probability"])
def test_a_self_test_that_leaves_something_out_is_refused(copy, missing):
    content = arrays(copy)
    del content[missing]
    copy.replace(bundle.SELFTEST, archive_of(**content))
    assert "selftest.npz must hold" in refused(copy)


@pytest.mark.parametrize(
    ("array", "file"),
    [
        ("action", "policy.onnx"),
        ("probability", bundle.PROBABILITY),
        ("regime", bundle.REGIME),
        ("market", bundle.SCALER),
    ],
)
def test_every_expected_output_of_the_self_test_counts(copy, array, file):
    content = arrays(copy)
    content[array].flat[-1] += 1e-3
    copy.replace(bundle.SELFTEST, archive_of(**content))
    assert re.search(rf"{file} does not reproduce self-test vector 7", refused(copy))


def test_writing_again_replaces_the_bundle_whole(tmp_path, made):
    parts, manifest = made
    target = tmp_path / "models" / "one"
    first = bundle.write(target, parts, manifest)
    second = bundle.write(target, parts, {**manifest, "name": "another"})
    assert first.path == second.path == target
    assert bundle.load(target).name == "another"
    assert [path.name for path in target.parent.iterdir()] == ["one"]


def test_a_bundle_that_would_be_refused_is_never_put_in_place(tmp_path, made):
    parts, manifest = made
    target = tmp_path / "one"
    bundle.write(target, parts, manifest)
    with pytest.raises(BundleError):
        bundle.write(target, {**parts, "policy.onnx": b"junk"}, {**manifest, "name": "another"})
    assert bundle.load(target).name == manifest["name"]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_the_shipped_bundle_passes_and_says_what_it_is():
    found = bundle.load(bundle.shipped())
    assert found.manifest.kind == "baseline"
    assert found.research_only
    assert found.manifest.metrics["market"] == "simulated"
    assert sum(file.stat().st_size for file in bundle.shipped().iterdir()) < 200_000


def test_the_same_fit_gives_the_same_bytes(recording, made):
    from mia_daemon.products.instruments import instrument

    again = baseline.assemble(baseline_fit.fit(recording, instrument("ESZ26_FUT_CME"), 5.0), recording, 5.0, 11)
    assert again[0].keys() == made[0].keys()
    assert all(again[0][name] == data for name, data in made[0].items())
    assert json.dumps(again[1]) == json.dumps(made[1])
