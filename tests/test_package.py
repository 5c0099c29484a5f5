"""What is in the two things that users install: the sdist and the wheel."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import skpar

HERE = Path(__file__).resolve().parents[1]
KERNELS = HERE / "skpar" / "_kernels"

in_a_checkout = pytest.mark.skipif(
    not (HERE / "pyproject.toml").is_file(), reason="the tests run apart from the source tree"
)


def test_version_is_the_metadata():
    assert skpar.__version__ == version("skpar")


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the sdist and the wheel, the wheel built from the sdist."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    # A compiler flag of the environment (sanitizers) is none of this test's business.
    env = {k: v for k, v in os.environ.items() if k not in ("CFLAGS", "LDFLAGS")}
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(HERE)],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return out


# One test for both, so that xdist builds once.
@pytest.mark.slow
@in_a_checkout
def test_sdist_and_wheel(dist):
    sources = {p.name for p in KERNELS.iterdir() if p.suffix in (".pyx", ".pxd", ".h")}
    kernels = {p.stem for p in KERNELS.glob("*.pyx")}
    modules = {p.name for p in (HERE / "skpar").glob("*.py")}
    assert kernels

    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = [n.partition("/")[2] for n in tar.getnames()]
    held = {n.rpartition("/")[2] for n in names if n.startswith("skpar/_kernels/")}
    assert sources <= held
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= set(names)
    assert not [n for n in names if re.search(r"\.(c|so|pyd|pyc)$", n)]

    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    held = {n.rpartition("/")[2] for n in names if n.startswith("skpar/_kernels/")}
    assert {n.partition(".")[0] for n in held if n.endswith((".so", ".pyd"))} == kernels
    assert {n.partition("/")[2] for n in names if re.fullmatch(r"skpar/\w+\.py", n)} == modules
    assert not [n for n in names if n.endswith((".c", ".pyx", ".pxd", ".h"))]
    assert not [n for n in names if n.startswith(("tests", "docs", "examples"))]


def test_show_versions(capsys):
    """Every dependency with its version; packages that are not there are said not to be."""
    skpar.show_versions()
    said = {}
    for line in capsys.readouterr().out.splitlines():
        name, _, value = line.partition(": ")
        said.setdefault(name.strip(), value)
    assert said["skpar"] == skpar.__version__
    for name in ("scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl"):
        assert said[name] == version(name)
    for name in ("matplotlib", "pandas"):
        expected = version(name) if importlib.util.find_spec(name) else "not installed"
        assert said[name] == expected
    assert "pytest" not in said
    assert int(said["n_jobs=-1"]) >= 1
    assert said["SIMD"] in ("scalar", "neon", "sse2", "avx2", "avx512")
    assert said["compiler"].split()[0] in ("gcc", "clang", "msvc", "unknown")
    assert re.fullmatch(r"3\.\d+\.\d+", said["Cython"])
