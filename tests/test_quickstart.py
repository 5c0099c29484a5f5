"""examples/quickstart.py: the files that it reads, its table, and one line for bad input."""

import bz2
import gzip
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from _common import SHARED_DATA
from sklearn.datasets import dump_svmlight_file
from sklearn.linear_model import SGDClassifier, SGDRegressor

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "quickstart.py"


def run_script(*arguments, **env):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | env,
    )


@pytest.fixture(scope="module")
def quickstart():
    """The script as a module: a process for each of the small cases would cost seconds."""
    spec = importlib.util.spec_from_file_location("quickstart", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).round(3)
    return X, (X[:, 0] + 0.1 * rng.normal(size=120) > 0).astype(int)


def rows_of(output):
    """The table as (estimator, seconds, objective, score, speed-up)."""
    cells = [line.split() for line in output.splitlines() if line.startswith(("SGD", "Hog", "Par"))]
    return [(row[0], *map(float, [*row[2:5], row[5].rstrip("x")])) for row in cells]


def test_generated_data(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.png"
    done = run_script("--rows", 2000, "--epochs", 3, "--output", picture)
    assert (done.returncode, done.stderr) == (0, "")
    names = [row[0] for row in rows_of(done.stdout)]
    assert names[0] == "SGDClassifier"
    assert {"HogwildClassifier", "ParallelSGDClassifier"} == set(names[1:])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in done.stdout


def test_without_matplotlib_the_table_still_comes(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    python_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    picture = tmp_path / "picture.png"
    done = run_script("--rows", 500, "--output", picture, PYTHONPATH=python_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows_of(done.stdout)) >= 3
    assert 'pip install "skpar[plot]"' in done.stdout
    assert not picture.exists()


def test_a9a_as_it_is(tmp_path):
    path = SHARED_DATA / "a9a" / "a9a"
    if not path.is_file():
        pytest.skip(f"no {path}")
    done = run_script(path, "--output", tmp_path / "a9a.png")
    assert (done.returncode, done.stderr) == (0, "")
    rows = rows_of(done.stdout)
    for _, _, objective, accuracy, _ in rows:
        assert objective == pytest.approx(rows[0][2], rel=0.02)
        assert accuracy > 0.83


def write_csv(path, X, y, header=None):
    lines = [",".join(map(str, [*row, target])) for row, target in zip(X, y, strict=True)]
    path.write_text("\n".join(([header] if header else []) + lines) + "\n")


def write_svmlight(path, X, y, opener=open):
    with opener(path, "wb") as file:
        dump_svmlight_file(X, y, file)


def write_sparse_npz(path, X, y):
    X = sp.csr_matrix(X)
    np.savez(
        path, data=X.data, indices=X.indices, indptr=X.indptr, shape=X.shape, format=b"csr", y=y
    )


WRITERS = {
    "table.csv": write_csv,
    "header.csv": lambda path, X, y: write_csv(path, X, y, "a,b,c,d,y"),
    "words.csv": lambda path, X, y: write_csv(path, X, np.where(y, "yes", "no"), '"a","b",c,d,y'),
    "no_extension": write_svmlight,
    "rows.svm.bz2": lambda path, X, y: write_svmlight(path, X, y, bz2.open),
    "rows.gz": lambda path, X, y: write_svmlight(path, X, y, gzip.open),
    "dense.npz": lambda path, X, y: np.savez(path, X=X, y=y),
    "sparse.npz": write_sparse_npz,
}


@pytest.mark.parametrize("name", WRITERS)
def test_reads_every_format(quickstart, tmp_path, table, name):
    X, y = table
    X = np.where(abs(X) < 1, 0, X)
    WRITERS[name](tmp_path / name, X, y)
    X_read, y_read = quickstart.read(str(tmp_path / name))
    X_read = X_read.toarray() if sp.issparse(X_read) else X_read
    np.testing.assert_allclose(X_read, X)
    if name == "words.csv":
        y_read = y_read == "yes"
    np.testing.assert_array_equal(y_read, y)


def test_target_by_name(quickstart, tmp_path, table):
    X, y = table
    write_csv(tmp_path / "a.csv", X, y, "a,b,c,d,y")
    X_read, y_read = quickstart.read(str(tmp_path / "a.csv"), target="b")
    np.testing.assert_array_equal(y_read, X[:, 1])
    np.testing.assert_array_equal(X_read, np.column_stack([np.delete(X, 1, axis=1), y]))


@pytest.mark.parametrize(
    ("target", "arguments", "words"),
    [
        ("two", [], "2 classes; 2 epochs of log_loss"),
        ("two", ["--loss", "squared_error"], "2 target values; 2 epochs of squared_error"),
        ("three", ["--loss", "hinge", "--rows", "50"], "40 rows to train on, 10 held out"),
        ("continuous", [], "epochs of squared_error"),
        ("count", ["--loss", "huber"], "epochs of huber"),
    ],
)
def test_the_target_decides_the_task(
    quickstart, tmp_path, capsys, monkeypatch, table, target, arguments, words
):
    monkeypatch.setattr(quickstart, "save_picture", lambda *args: None)
    X, two = table
    y = {
        "two": two,
        "three": two + (X[:, 1] > 0),
        "continuous": X @ [1, 2, 3, 4],
        "count": np.arange(120),
    }[target]
    np.savez(tmp_path / "a.npz", X=X, y=y)
    assert quickstart.main([str(tmp_path / "a.npz"), "--epochs", "2", *arguments]) == 0
    output = capsys.readouterr().out
    assert words in output
    is_regression = "target values" in output
    assert ("R2" if is_regression else "accuracy") in output
    expected = "SGDRegressor" if is_regression else "SGDClassifier"
    assert rows_of(output)[0][0] == expected
    assert np.isfinite([row[1:] for row in rows_of(output)]).all()


@pytest.mark.parametrize("loss", ["log_loss", "squared_error"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_objective_is_least_where_its_gradient_vanishes(quickstart, table, loss, n_classes):
    """The table's objective against differences: at scikit-learn's weights it is near flat."""
    X, y = table
    if loss == "squared_error":
        fit = SGDRegressor(alpha=1e-4, max_iter=2000, tol=None, average=True, random_state=0)
        y = X @ [1.0, 2, 3, 4]
    else:
        y = y if n_classes == 2 else y + (X[:, 1] > 0)
        fit = SGDClassifier(loss, alpha=1e-4, max_iter=2000, tol=None, average=True, random_state=0)
    fit.fit(X, y)
    least = quickstart.objective(fit, loss, X, y)
    for factor in (0.5, 1.5):
        fit.coef_ = fit.coef_ * factor
        assert quickstart.objective(fit, loss, X, y) > least
        fit.coef_ = fit.coef_ / factor


ROWS = "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(40))
BAD = {
    "nothing in it": ("", "is empty"),
    "comments only": ("# one\n\n", "is empty"),
    "header only": ("a,b,y\n", "has a header and no rows"),
    "ragged": (ROWS + "1,2\n", "line 41: 2 values where 3 are expected"),
    "ragged after a header and a blank": ("a,b,y\n\n" + ROWS + "1,2,3,4\n", "line 43: 4 values"),
    "header too short": ("a,y\n" + ROWS, "line 2: 3 values where 2 are expected"),
    "word": ("a,b,y\n" + ROWS + "1,red,0\n", "line 42, column b: 'red' is not a number"),
    "gap": (ROWS + "1,,0\n", "line 41, column 2: a value is missing"),
    "target missing": (ROWS.replace(",0\n", ",no\n").replace("1\n", "\n"), "is empty in some rows"),
    "nan": (ROWS + "1,nan,0\n", "missing or infinite values among its features"),
    "nan target": (ROWS + "1,1,nan\n", "the target of .* has missing or infinite values"),
    "one class": (ROWS.replace(",1\n", ",0\n"), r"has one class only \(0.0\)"),
    "few rows": ("1,2,0\n3,4,1\n", "is too small: 2 rows"),
    "a class a row": ("".join(f"{i},v{i}\n" for i in range(50)), "has 50 classes in 50 rows"),
    "prose": ("Dear reader\nhow are you\n", "is neither svmlight, CSV nor npz"),
    "svmlight with a word": ("1 1:2 2:3\n" * 20 + "0 1:x y\n", "line 21: '0 1:x y' is not 'label"),
    "svmlight with a bad index": ("1 1:2 2:3\n" * 20 + "0 2:1 1:4\n", "indices|sorted"),
    "binary": (b"\x00\x01\x02" * 100, "it is binary"),
    "damaged gzip": (gzip.compress(ROWS.encode())[:40], "cannot read"),
    "damaged zip": (b"PK\x03\x04 and nothing of the kind", "cannot read"),
}


def the_one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("case", BAD)
def test_bad_file(quickstart, tmp_path, capsys, case):
    content, words = BAD[case]
    path = tmp_path / "data"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert quickstart.main([str(path)]) == 2
    message = the_one_line(capsys)
    assert str(path) in message
    assert re.search(words, message)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (dict(features=np.eye(3)), "must hold the arrays X and y; it holds features"),
        (dict(X=np.eye(20), y=np.arange(3)), "one row for each entry of y"),
        (dict(X=np.full((20, 2), "a"), y=np.arange(20) % 2), "matrix of numbers"),
        (dict(X=np.full((20, 2), None), y=np.arange(20) % 2), "allow_pickle"),
        (dict(X=np.full((20, 2), np.inf), y=np.arange(20) % 2), "missing or infinite"),
        (dict(X=np.eye(20), y=np.ones(20)), "one class only"),
    ],
)
def test_bad_npz(quickstart, tmp_path, capsys, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    assert quickstart.main([str(tmp_path / "a.npz")]) == 2
    assert words in the_one_line(capsys)


def test_bad_column(quickstart, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("a,b,y\n" + ROWS)
    assert quickstart.main([str(tmp_path / "a.csv"), "--target", "z"]) == 2
    assert "no column 'z'; its columns are a, b, y" in the_one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/file.csv"], "cannot read no/such/file.csv: No such file or directory"),
        (["--epochs", "0"], "whole number above 0"),
        (["--loss", "logistic"], "invalid choice: 'logistic'"),
        (["--output", "no/such/folder/a.png"], "there is no folder"),
    ],
)
def test_bad_arguments(arguments, words):
    done = run_script(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_picture_of_an_unknown_kind(tmp_path):
    pytest.importorskip("matplotlib")
    done = run_script("--rows", 500, "--epochs", 1, "--output", tmp_path / "a.xyz")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot save the picture" in done.stderr
