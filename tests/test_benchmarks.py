"""The benchmarks run, all of them, on little data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _common import SHARED_DATA

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (ROOT / "benchmarks" / "__main__.py").is_file(),
        reason="no source tree around the tests",
    ),
]


def run(folder, *arguments):
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-m", "benchmarks", "--scale", "0.01", "--rounds", "1"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, "--out", str(folder), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    (table,), (picture,) = folder.glob("*.md"), folder.glob("*.png")
    assert picture.stat().st_size > 10_000
    return table.read_text(encoding="utf-8")


def test_everything_runs(tmp_path):
    text = run(tmp_path)
    auto = "Defaults to the optimum"  # on real data alone
    titles = ["Kernels", "Epochs", "Scaling", "Tiny data", "Memory", auto]
    classes = ["One-vs-rest to the same objective", "Softmax to the minimum", "Epochs by classes"]
    titles += [*classes, "Versions"]
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == titles
    for contender in ("SGDClassifier", "SGDRegressor", "HogwildClassifier(n_jobs=1)"):
        assert f"| {contender} |" in text
    # Each table has rows, as wide as its header.
    for section in text.split("## ")[1:-1]:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        few = 3 if section.startswith(classes[1]) else 6
        assert len(rows) >= few or (section.startswith(auto) and not SHARED_DATA.is_dir())
        assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize("part", ["tiny", "kernels"])
def test_a_part_runs_alone(tmp_path, part):
    text = run(tmp_path, "--only", part, "--max-workers", "1")
    assert sum(line.startswith("## ") for line in text.splitlines()) == 2
