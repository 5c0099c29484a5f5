"""Predictions: X w + b whatever the layout, and the same bits for any number of workers."""

import threading

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from _common import HogwildClassifier, HogwildRegressor, is_clf
from sklearn.linear_model import SGDClassifier, SGDRegressor

import skpar._predict as predict

CASES = [  # estimator, parameters, weight vectors
    (HogwildRegressor, dict(), 1),
    (HogwildClassifier, dict(loss="log_loss"), 1),
    (HogwildClassifier, dict(loss="log_loss"), 3),
    (HogwildClassifier, dict(loss="modified_huber"), 5),
]
METHODS = ["predict", "decision_function", "predict_proba", "predict_log_proba"]


def model(cls, params, k, d, dtype=np.float64, twin=None):
    """A fitted estimator with random coefficients, some of them zero."""
    est = (twin or cls)(**params)
    rng = np.random.default_rng(0)
    shape = (k, d) if is_clf(cls) else (d,)
    est.coef_ = (rng.normal(size=shape) * (rng.random(shape) < 0.8)).astype(dtype)
    est.intercept_ = rng.normal(size=k).astype(dtype)
    est.n_features_in_ = d
    est.n_iter_ = 1
    if is_clf(cls):
        est.classes_ = np.array([f"class {c}" for c in range(max(2, k))])
    return est


def rows(layout, n, d, dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    if layout == "dense":
        return rng.normal(size=(n, d)).astype(dtype)
    lengths = rng.integers(0, 9, size=n)
    lengths[rng.random(n) < 0.01] = d  # and some long ones
    columns = rng.integers(0, d, size=lengths.sum())
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_matrix((rng.normal(size=len(columns)).astype(dtype), columns, starts), (n, d))


def methods(est):
    return [name for name in METHODS if hasattr(est, name)]


def many_spans(monkeypatch):
    """Spans so small that a test's data have enough of them for eight workers."""
    monkeypatch.setattr(predict, "SPAN_WORK", 2000)


log_of_zero = pytest.mark.filterwarnings("ignore:divide by zero encountered in log")


@log_of_zero
@pytest.mark.parametrize("backend", ["threading", "loky", None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize(("cls", "params", "k"), CASES)
def test_same_bits_for_any_number_of_workers(cls, params, k, layout, dtype, backend, monkeypatch):
    many_spans(monkeypatch)
    d = 40
    X, est = rows(layout, 5003, d, dtype), model(cls, params, k, d, dtype)
    for name in methods(est):
        one = getattr(est.set_params(n_jobs=1), name)(X)
        for n_jobs in (None, 2, 4):
            est.set_params(n_jobs=n_jobs)
            if backend is None:
                many = getattr(est, name)(X)
            else:
                with joblib.parallel_config(backend, n_jobs=4):
                    many = getattr(est, name)(X)
            np.testing.assert_array_equal(one, many)
            assert one.dtype == many.dtype


def test_many_rows_use_workers_and_few_do_not(monkeypatch):
    seen = set()
    original = predict._score_dense

    def spy(*args):
        seen.add(threading.current_thread())
        return original(*args)

    monkeypatch.setattr(predict, "_score_dense", spy)
    est = model(HogwildRegressor, {}, 1, 30).set_params(n_jobs=2)
    est.predict(rows("dense", 60_000, 30))  # a fraction of a millisecond
    assert seen == {threading.main_thread()}
    seen.clear()
    many_spans(monkeypatch)
    before = set(threading.enumerate())
    est.predict(rows("dense", 20_000, 30))
    assert threading.main_thread() not in seen and seen
    assert set(threading.enumerate()) <= before


@log_of_zero
@pytest.mark.parametrize("coef_dtype", [np.float64, np.float32])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int8, bool])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize(("cls", "params", "k"), CASES)
def test_scikit_learns_values_and_dtypes(cls, params, k, layout, dtype, coef_dtype):
    if layout == "csr" and dtype == np.float16:
        pytest.skip("scipy has no sparse float16")
    d = 12
    X = rows(layout, 300, d)
    X = abs(X).astype(dtype) if dtype is bool else X.astype(dtype)
    est = model(cls, params, k, d, coef_dtype)
    twin = model(cls, params, k, d, coef_dtype, SGDClassifier if is_clf(cls) else SGDRegressor)
    rtol = 1e-11 if np.result_type(X, coef_dtype) == np.float64 else 1e-4
    for name in methods(est):
        ours, theirs = getattr(est, name)(X), getattr(twin, name)(X)
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        if name == "predict" and is_clf(cls):
            assert np.mean(ours == theirs) > 0.99  # rounding may decide a tie
        elif name == "predict_log_proba":
            np.testing.assert_allclose(np.exp(ours), np.exp(theirs), rtol=rtol, atol=1e-6)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def views(X, tmp_path):
    """The same numbers in other places and orders."""
    frozen = X.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    path = tmp_path / "X"
    X.tofile(path)
    yield "memmap", np.memmap(path, X.dtype, "r", shape=X.shape)
    yield "Fortran order", np.asfortranarray(X)
    wide = np.zeros((len(X), 2 * X.shape[1] + 1), X.dtype)
    wide[:, 1 : X.shape[1] + 1] = X
    yield "part of wider rows", wide[:, 1 : X.shape[1] + 1]
    wide[:, 1::2] = X
    yield "every other column", wide[:, 1::2]
    yield "upside down", np.ascontiguousarray(X[::-1])[::-1]
    raw = np.zeros(X.nbytes + 1, np.uint8)
    off = raw[1:].view(X.dtype).reshape(X.shape)
    off[:] = X
    yield "unaligned", off
    yield "byte order", X.astype(X.dtype.newbyteorder())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [1, 3])
def test_where_dense_rows_lie_does_not_matter(k, dtype, tmp_path, monkeypatch):
    many_spans(monkeypatch)
    X, est = rows("dense", 3001, 15, dtype), model(HogwildClassifier, {}, k, 15, dtype)
    expected = est.decision_function(X)
    for name, view in views(X, tmp_path):
        got = est.decision_function(view)
        np.testing.assert_allclose(
            got,
            expected,
            rtol=1e-12 if dtype == np.float64 else 1e-4,
            atol=1e-5 if dtype == np.float32 else 1e-12,
            err_msg=name,
        )
        assert got.dtype == expected.dtype, name


@pytest.mark.parametrize("k", [1, 4])
def test_where_sparse_rows_lie_does_not_matter(k, monkeypatch):
    many_spans(monkeypatch)
    X, est = rows("csr", 3001, 60), model(HogwildClassifier, {}, k, 60)
    expected = est.decision_function(X)
    wide = X.copy()
    wide.indices, wide.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    frozen = X.copy()
    for array in (frozen.data, frozen.indices, frozen.indptr):
        array.flags.writeable = False
    longer = X.copy()  # room after the last row
    longer.data = np.append(X.data, [np.nan] * 9)
    longer.indices = np.append(X.indices, [10**6] * 9).astype(X.indices.dtype)
    for same in (wide, frozen, longer, sp.csr_array(X)):
        np.testing.assert_array_equal(est.decision_function(same), expected)
    for other in (X.tocsc(), X.tocoo(), X.tobsr(), X.toarray()):
        np.testing.assert_allclose(est.decision_function(other), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 500])
def test_few_and_many_sparse_rows_of_several_classes(n):
    """Below and above the size at which coefficients are transposed."""
    X, est = rows("csr", n, 1000), model(HogwildClassifier, {}, 4, 1000)
    expected = X.toarray() @ est.coef_.T + est.intercept_
    np.testing.assert_allclose(est.decision_function(X), expected, rtol=1e-10, atol=1e-12)


@log_of_zero
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_sparsified_coefficients(layout, monkeypatch):
    many_spans(monkeypatch)
    for cls, params, k in CASES:
        X, est = rows(layout, 2000, 20), model(cls, params, k, 20)
        expected = [getattr(est, name)(X) for name in methods(est)]
        est.sparsify().set_params(n_jobs=2)
        for name, value in zip(methods(est), expected):
            got = getattr(est, name)(X)
            if value.dtype.kind == "f":
                np.testing.assert_allclose(got, value, rtol=1e-10, atol=1e-12)
            else:
                np.testing.assert_array_equal(got, value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_jobs", [1, 4])
@pytest.mark.parametrize("layout", ["dense", "fortran", "csr"])
@pytest.mark.parametrize(("cls", "params", "k"), CASES)
def test_bad_numbers_are_found(cls, params, k, layout, n_jobs, bad, monkeypatch):
    """In any row, and in columns whose coefficients are zero."""
    many_spans(monkeypatch)
    X, est = rows(layout if layout == "csr" else "dense", 4000, 20), model(cls, params, k, 20)
    est.set_params(n_jobs=n_jobs)
    X = np.asfortranarray(X) if layout == "fortran" else X
    for zero in (False, True):
        if zero:
            est.coef_ = est.coef_ * 0
        for row in (0, 1777, 3999):
            broken = X.copy()
            if layout == "csr":
                broken.data[min(broken.indptr[row], broken.nnz - 1)] = bad
            else:
                broken[row, 3] = bad
            with pytest.raises(ValueError, match="NaN|infinity"):
                est.predict(broken)
    sparse = est.sparsify()
    with pytest.raises(ValueError, match="NaN|infinity"):
        sparse.predict(broken)


def test_overflow_is_the_users():
    est = model(HogwildRegressor, {}, 1, 3)
    est.coef_[:] = 1e300
    assert np.isposinf(est.predict(np.full((2, 3), 1e300))).all()


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_bad_indices_are_found(n_jobs, monkeypatch):
    many_spans(monkeypatch)
    est = model(HogwildRegressor, {}, 1, 20).set_params(n_jobs=n_jobs)
    for at, index in ((0, 20), (1000, 10**6), (-1, -1)):
        X = rows("csr", 4000, 20)
        X.indices[at] = index
        with pytest.raises(ValueError, match="column index"):
            est.predict(X)
    for at, start in ((5, 10**9), (1000, -3), (2000, 0), (0, 2), (-1, 10**9)):
        X = rows("csr", 4000, 20)
        X.indptr[at] = start
        with pytest.raises(ValueError, match="indptr"):
            est.predict(X)


def test_coefficients_of_another_width():
    est = model(HogwildRegressor, {}, 1, 20)
    est.coef_ = est.coef_[:10]
    with pytest.raises(ValueError, match="coef_ has 10"):
        est.predict(rows("dense", 5, 20))


def test_int64_indices_are_not_copied(monkeypatch):
    """The kernel is given parts of the user's own arrays."""
    many_spans(monkeypatch)
    X, est = rows("csr", 3000, 60), model(HogwildRegressor, {}, 1, 60)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    seen = []

    def spy(x, columns, starts, *rest):
        seen.append(
            np.shares_memory(x, X.data)
            and np.shares_memory(columns, X.indices)
            and np.shares_memory(starts, X.indptr)
        )
        return kernel(x, columns, starts, *rest)

    kernel = predict.score_sparse
    monkeypatch.setattr(predict, "score_sparse", spy)
    est.predict(X)
    assert len(seen) > 1 and all(seen)


def test_an_interrupted_prediction_stops(monkeypatch):
    many_spans(monkeypatch)
    est = model(HogwildRegressor, {}, 1, 20).set_params(n_jobs=2)
    calls = []

    def failing(*args):
        calls.append(1)
        raise RuntimeError("from a worker")

    monkeypatch.setattr(predict, "_score_dense", failing)
    with pytest.raises(RuntimeError, match="from a worker"):
        est.predict(rows("dense", 20_000, 20))
    assert len(calls) <= 2
