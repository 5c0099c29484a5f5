"""class_weight="balanced" where labels come in batches: the weights of all labels seen so far."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from _common import CLASSIFIERS, large_problem, workers
from sklearn.utils import compute_class_weight

from skpar import fit_stream, sources
from skpar._class_weights import class_counts, class_weights

classifiers = pytest.mark.parametrize("cls", CLASSIFIERS)
MODES = {
    "binary": dict(),
    "one-vs-rest": dict(loss="modified_huber"),
    "softmax": dict(loss="log_loss", multi_class="multinomial"),
}
modes = pytest.mark.parametrize("mode", MODES)


def data(mode, n=900, seed=0):
    """Rows whose classes differ in size; the last label first comes half-way."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) * (rng.random((n, 5)) < 0.7)
    scores = X @ rng.normal(size=(5, 3)) + rng.gumbel(size=(n, 3)) + [2.0, 0.5, 0.0]
    y = scores.argmax(axis=1) if mode != "binary" else (scores[:, 1] > scores[:, 0]).astype(int)
    y[: n // 2][y[: n // 2] == y.max()] = 0
    return X, np.array(list("abc"))[y]


def weights_so_far(labels, classes):
    """scikit-learn's weights of the labels that were seen; any others have no row to weigh."""
    seen = np.unique(labels)
    return dict(zip(seen, compute_class_weight("balanced", classes=seen, y=labels), strict=True))


def test_weights_are_scikit_learns():
    rng = np.random.default_rng(0)
    classes, seen, counts = np.arange(5), [], None
    for size in (1, 3, 40, 200):
        seen += rng.choice(5, size, p=[0.7, 0.2, 0.05, 0.05, 0.0]).tolist()
        counts = class_counts("balanced", classes, seen[-size:], counts)
        got = class_weights("balanced", classes, counts)
        for k in classes:
            assert got[k] == weights_so_far(seen, classes).get(k, 1.0)
        np.testing.assert_allclose(got[seen].mean(), 1.0)


@classifiers
@modes
@pytest.mark.parametrize("rate", ["auto", "invscaling"])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
def test_a_batch_weighs_as_the_labels_so_far_say(cls, mode, rate, layout):
    X, y = data(mode)
    settings = dict(learning_rate=rate, eta0=0.1, random_state=0, **MODES[mode])
    model, given = cls(class_weight="balanced", **settings), cls(**settings)
    for lo in range(0, len(y), 150):
        rows, labels = layout(X[lo : lo + 150]), y[lo : lo + 150]
        model.partial_fit(rows, labels, classes=np.unique(y))
        given.set_params(class_weight=weights_so_far(y[: lo + 150], np.unique(y)))
        given.partial_fit(rows, labels, classes=np.unique(y))
        np.testing.assert_array_equal(model.coef_, given.coef_)
        np.testing.assert_array_equal(model.intercept_, given.intercept_)


@classifiers
def test_sample_weights_multiply(cls):
    X, y = data("binary")
    s = np.random.default_rng(1).random(len(y))
    model = cls(class_weight="balanced", random_state=0)
    model.partial_fit(X, y, classes=["a", "b"], sample_weight=s)
    weights = weights_so_far(y, ["a", "b"])
    factor = np.array([weights[label] for label in y])
    given = cls(random_state=0).partial_fit(X, y, classes=["a", "b"], sample_weight=s * factor)
    np.testing.assert_array_equal(model.coef_, given.coef_)


@classifiers
@modes
def test_it_goes_on_after_fit_and_after_pickle(cls, mode):
    X, y = data(mode)
    model = cls(class_weight="balanced", random_state=0, **MODES[mode]).fit(X, y)
    again = pickle.loads(pickle.dumps(model)).partial_fit(X[:100], y[:100])
    weights = weights_so_far(np.concatenate([y, y[:100]]), np.unique(y))
    model.set_params(class_weight=weights).partial_fit(X[:100], y[:100])
    np.testing.assert_array_equal(again.coef_, model.coef_)


@classifiers
def test_fit_forgets_the_labels_before(cls):
    X, y = data("binary")
    model = cls(class_weight="balanced", random_state=0)
    model.partial_fit(X[:100], y[:100], classes=["a", "b"]).fit(X, y)
    fresh = cls(class_weight="balanced", random_state=0).fit(X, y)
    for each in (model, fresh):
        each.partial_fit(X[:50], y[:50])
    np.testing.assert_array_equal(model.coef_, fresh.coef_)


@classifiers
def test_a_refused_batch_is_not_counted(cls):
    X, y = data("binary")
    model = cls(class_weight="balanced", random_state=0)
    other = cls(class_weight="balanced", random_state=0)
    for each in (model, other):
        each.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"y has \['z'\], classes are \['a', 'b'\]"):
        model.partial_fit(X, np.where(y == "b", "z", y))
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.full_like(X, np.nan), y)
    for each in (model, other):
        each.partial_fit(X[:50], y[:50])
    np.testing.assert_array_equal(model.coef_, other.coef_)


@classifiers
@modes
def test_a_stream_resumes_with_its_counts(cls, mode, tmp_path):
    X, y = data(mode)

    def run(**options):
        model = cls(class_weight="balanced", learning_rate="constant", **MODES[mode])
        source = sources.arrays(X, y, chunk_rows=100)
        return fit_stream(
            model, source, classes=np.unique(y), n_epochs=2, random_state=0, **options
        )

    def end(progress):
        if progress.chunk == 4:
            raise InterruptedError

    expected, path = run(), tmp_path / "run"
    with pytest.raises(InterruptedError):
        run(checkpoint=path, checkpoint_every="1 chunks", callbacks=[end])
    got = run(checkpoint=path)
    np.testing.assert_array_equal(got.coef_, expected.coef_)
    assert got._seen_counts.sum() == 2 * len(y)


@classifiers
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_two_workers_reach_the_balanced_objective(cls, layout):
    X, y = large_problem("binary", layout)
    rare = np.random.default_rng(0).random(len(y)) < 0.1
    X, y = X[(y == 0) | rare], y[(y == 0) | rare]
    factors = compute_class_weight("balanced", classes=np.array([0, 1]), y=y)[y]

    def objective(model):
        margins = (2 * y - 1) * model.decision_function(X)
        return factors @ np.logaddexp(0, -margins) / len(y) + 5e-3 * np.sum(model.coef_**2)

    settings = dict(loss="log_loss", alpha=1e-2, class_weight="balanced", random_state=0)
    best = objective(cls(tol=1e-6, **settings).fit(X, y))
    stream = sources.arrays(X, y, chunk_rows=3000)
    for options in (dict(learning_rate="optimal", average=len(y)), {}):
        model = cls(**workers(cls, 2), **settings, **options)
        fit_stream(model, stream, classes=[0, 1], n_epochs=10)
        assert model.n_workers_ == 2 or not options or cls is CLASSIFIERS[1]
        assert objective(model) <= best * 1.02


def test_the_same_bits_for_any_number_of_workers():
    X, y = large_problem("multiclass")
    coefs = []
    for n_jobs in (1, 2):
        model = CLASSIFIERS[0](n_shards=2, n_jobs=n_jobs, class_weight="balanced", random_state=0)
        for lo in range(0, len(y), 4000):
            model.partial_fit(X[lo : lo + 4000], y[lo : lo + 4000], classes=range(4))
        coefs.append(model.coef_)
    np.testing.assert_array_equal(*coefs)
