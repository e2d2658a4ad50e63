"""A bundle fitted to noise with a known relation in it: small, quick, the same in every run."""

import hashlib
import json
import shutil

import pytest

from mia_daemon.model import bundle
from mia_daemon.products.instruments import instrument
from mia_daemon.training import baseline, baseline_fit
from mia_daemon.training.synthetic import synthetic_recording

SEED = 11


@pytest.fixture(scope="session")
def recording():
    return synthetic_recording(SEED, 8000)


@pytest.fixture(scope="session")
def made(recording, tmp_path_factory):
    """(parts, manifest) as `bundle.write` takes them."""
    fitted = baseline_fit.fit(recording, instrument("ESZ26_FUT_CME"), 5.0)
    return baseline.assemble(fitted, recording, 5.0, SEED)


@pytest.fixture(scope="session")
def sound(made, tmp_path_factory):
    """The directory of a bundle that passes; read only."""
    directory = tmp_path_factory.mktemp("bundles") / "sound"
    bundle.write(directory, *made)
    return directory


class Copy:
    """A bundle to damage: a change that `sign` follows is one its maker made, not one that happened to it."""

    def __init__(self, directory):
        self.path = directory

    def manifest(self):
        return json.loads((self.path / bundle.MANIFEST).read_text())

    def sign(self, **changes):
        hashes = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in self.path.iterdir()
            if file.name != bundle.MANIFEST
        }
        document = {**self.manifest(), "files": hashes, **changes}
        (self.path / bundle.MANIFEST).write_text(json.dumps(document))

    def replace(self, name, data):
        """Another content for one file, duly signed."""
        (self.path / name).write_bytes(data)
        self.sign()

    def edit(self, name, change):
        """`change` edits the parsed JSON of one file, duly signed."""
        document = json.loads((self.path / name).read_text())
        change(document)
        self.replace(name, json.dumps(document).encode())

    def load(self):
        return bundle.load(self.path)


@pytest.fixture
def copy(sound, tmp_path):
    return Copy(shutil.copytree(sound, tmp_path / "copy"))
