"""Fixtures that several test modules use."""

import sys
from pathlib import Path

import pytest

# For `from _common import ...` under --import-mode=importlib too.
sys.path.insert(0, str(Path(__file__).parent))

from _common import SHARED_DATA, load_shared


@pytest.fixture
def shared_data():
    """shared_data(name) -> dict(X, y, X_test, y_test, task); skips where the data are absent."""

    def load(name):
        if not (SHARED_DATA / "load.py").is_file():
            pytest.skip(f"no real data sets at {SHARED_DATA}")
        pytest.importorskip("pandas")
        return load_shared(name)

    return load
