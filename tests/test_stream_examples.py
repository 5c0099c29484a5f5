"""The examples of streams run on the real files, and say so where these are absent."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from _common import SHARED_DATA

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# What always saying the most frequent class scores, and a bit.
FLOORS = {"kdd99": 0.85, "amazon_reviews": 0.7}
SCRIPTS = {"kdd99": "stream_kdd99.py", "amazon_reviews": "stream_reviews.py"}

in_a_checkout = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the tests run apart from the source tree"
)


def run(name, folder):
    command = [sys.executable, str(EXAMPLES / SCRIPTS[name]), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
@in_a_checkout
@pytest.mark.parametrize("name", SCRIPTS)
def test_example_on_the_raw_files(name, shared_data):
    pytest.importorskip("pyarrow")
    shared_data(name)
    done = run(name, SHARED_DATA / name)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"accuracy on the [\w -]+: ([\d.]+)", done.stdout)[1])
    assert accuracy > FLOORS[name]


@in_a_checkout
@pytest.mark.parametrize("name", SCRIPTS)
def test_example_without_the_files(name, tmp_path):
    done = run(name, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(tmp_path) in done.stderr
