"""Sources: their chunks together are the rows; caches give the same; errors name the place."""

import bz2
import gzip
import lzma
import os
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import dump_svmlight_file, load_svmlight_file
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from skpar import HogwildClassifier, HogwildRegressor, ParallelSGDClassifier, fit_stream, sources
from skpar._chunks import joined, pieces
from skpar._sources_memory import place_in_file
from skpar._text import parse_lines, parse_with_sklearn

CHUNK_ROWS = [1, 7, 64, 1000]


def whole(source):
    """All of X, y and sample_weight."""
    parts = list(source)
    return tuple(map(joined, zip(*parts, strict=True)))


def dense(n=300, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, 2, n)


def sparse(n=300, d=40, seed=0):
    X = sp.random(n, d, 0.2, format="csr", random_state=seed)
    X.data = np.round(X.data * 2 - 1, 6)
    return X, np.random.default_rng(seed).integers(0, 2, n)


def same_matrix(A, B):
    return A.shape == B.shape and (A != B).nnz == 0


@pytest.mark.parametrize(("n", "rows"), [(0, 5), (1, 5), (7, 5), (8, 5), (100, 7), (64, 64)])
def test_pieces_cover_the_rows(n, rows):
    spans = pieces(n, rows)
    assert spans[0][0] == 0 and spans[-1][1] == n
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    sizes = [hi - lo for lo, hi in spans]
    assert max(sizes) <= 1.5 * rows and max(sizes) - min(sizes) <= 1


# In memory.


@pytest.mark.parametrize("chunk_rows", CHUNK_ROWS)
@pytest.mark.parametrize("make", [dense, sparse])
def test_arrays(chunk_rows, make):
    X, y = make()
    weights = np.arange(300.0)
    A, b, c = whole(sources.arrays(X, y, weights, chunk_rows=chunk_rows))
    assert same_matrix(sp.csr_matrix(A), sp.csr_matrix(X))
    assert np.array_equal(b, y) and np.array_equal(c, weights)


def test_memory_maps_are_read_through_maps_of_their_own(tmp_path):
    X, _ = dense()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    fortran = np.memmap(tmp_path / "F", X.dtype, "w+", 16, X.shape, "F")
    fortran[:] = X
    views = [mapped, mapped[::2], mapped[5:, 2:4], mapped[7:, 0], mapped[:, ::3], fortran]
    for view in views:
        assert place_in_file(view) is not None
        source = sources.arrays(view, chunk_rows=64)
        assert np.array_equal(whole(source)[0], view)
        assert not any(np.shares_memory(chunk, mapped) for chunk, _, _ in source)
    private = np.load(tmp_path / "X.npy", mmap_mode="c")
    private[3] = 7
    for view in (private, mapped[::-1], np.asarray(mapped)[::-1]):
        assert np.array_equal(whole(sources.arrays(view, chunk_rows=64))[0], view)


def test_frames(tmp_path):
    pd = pytest.importorskip("pandas")
    X, y = dense()
    frame = pd.DataFrame(X, columns=list("abcdef"))
    source = sources.arrays(frame, pd.Series(y), chunk_rows=50, shuffle=True)
    assert source.schema.feature_names == tuple("abcdef")
    A, _, _ = whole(source)
    pd.testing.assert_frame_equal(A, frame)
    model = fit_stream(SGDClassifier(), source, classes=[0, 1], random_state=0)
    assert model.feature_names_in_.tolist() == list("abcdef")


@pytest.mark.parametrize("chunk_rows", [None, *CHUNK_ROWS])
@pytest.mark.parametrize("make", [dense, sparse])
def test_iterables(chunk_rows, make):
    X, y = make()
    items = [(X[lo : lo + 9], y[lo : lo + 9]) for lo in range(0, 300, 9)]
    for given in (items, lambda: iter(items), iter(items)):
        source = sources.iterable(given, chunk_rows=chunk_rows)
        chunks = list(source)
        sizes = [c[0].shape[0] for c in chunks]
        assert max(sizes) <= (9 if chunk_rows is None else 1.5 * max(chunk_rows, 9))
        A, b, _ = map(joined, zip(*chunks, strict=True))
        assert same_matrix(sp.csr_matrix(A), sp.csr_matrix(X)) and np.array_equal(b, y)


def test_dask_arrays():
    da = pytest.importorskip("dask.array")
    X, y = dense()
    for chunk_rows in CHUNK_ROWS[1:]:
        source = sources.dask_array(
            da.from_array(X, chunks=(70, 4)), da.from_array(y, chunks=31), chunk_rows=chunk_rows
        )
        assert source.schema.n_rows == 300 and source.schema.n_features == 6
        A, b, _ = whole(source)
        assert np.array_equal(A, X) and np.array_equal(b, y)
    with pytest.raises(ValueError, match="rows"):
        sources.dask_array(da.from_array(X), da.from_array(y[:9]))
    with pytest.raises(TypeError, match="Dask"):
        sources.dask_array(X, y)


# Svmlight.

PACKERS = {"": lambda b: b, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def svmlight_file(folder, X, y, packed="", zero_based=False):
    plain = folder / "rows.svm"
    dump_svmlight_file(X, y, str(plain), zero_based=zero_based)
    path = folder / f"rows.svm{packed}"
    path.write_bytes(PACKERS[packed](plain.read_bytes()))
    return path


@pytest.mark.parametrize("chunk_rows", CHUNK_ROWS)
@pytest.mark.parametrize("packed", PACKERS)
def test_svmlight(tmp_path, chunk_rows, packed):
    X, y = sparse()
    path = svmlight_file(tmp_path, X, y, packed)
    A, b, _ = whole(sources.svmlight(path, chunk_rows=chunk_rows, n_features=40))
    assert same_matrix(A, X) and np.array_equal(b, y)


@pytest.mark.parametrize("zero_based", [True, False])
def test_svmlight_finds_out_about_columns(tmp_path, zero_based):
    X, y = sparse()
    X = sp.csr_matrix(X + sp.csr_matrix(([1.0, 1.0], ([0, 299], [0, 39])), X.shape))
    path = svmlight_file(tmp_path, X, y, zero_based=zero_based)
    source = sources.svmlight(path, chunk_rows=50, dtype=np.float32)
    A, _, _ = whole(source)
    assert A.dtype == np.float32 and same_matrix(A, X.astype(np.float32))
    assert source.n_features == 40
    with pytest.raises(ValueError, match="n_features=20"):
        whole(sources.svmlight(path, n_features=20))
    if zero_based:
        with pytest.raises(ValueError, match="zero_based=False"):
            whole(sources.svmlight(path, n_features=40, zero_based=False))


ODD_LINES = [
    b"1 1:2 3:4\n-1 2:1e-3\n",
    b"+1 1:+2 3:-4\n-1 2:.5",
    b"1\n-1 1:1\n\n\n0.25 7:1\n",
    b"1 1:2  3:4 \r\n-1\t2:1\r\n",
    b"  1 1:2\n 2 3:4\n",
    b"1 1:2 # a remark\n2 # 3:4\n",
    b"1 qid:4 1:2\n2 qid:4 3:4\n",
    b"",
    b"\n\n",
    b"1.5e300 1:1e-310 2:123456789.123456789\n",
]


@pytest.mark.parametrize("text", ODD_LINES)
def test_the_fast_parser_agrees_with_scikit_learns(text):
    pytest.importorskip("pyarrow")
    fast, slow = parse_lines(text), parse_with_sklearn(text)
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("text", [b"1 x:2\n", b"a 1:2\n", b"1 1:2:3\n", b"1 3\n", b"1 -1:5\n"])
def test_a_wrong_line_is_an_error(tmp_path, text):
    path = tmp_path / "bad.svm"
    path.write_bytes(b"1 1:1\n" * 50 + text)
    source = sources.svmlight(path, n_features=3, zero_based=False, chunk_rows=10, shuffle=False)
    with pytest.raises(ValueError) as caught:
        fit_stream(SGDClassifier(), source, classes=[0, 1])
    assert "bad.svm, bytes" in "".join(caught.value.__notes__)


def test_files_folders_and_globs(tmp_path):
    X, y = sparse()
    (tmp_path / "deep").mkdir()
    for k, name in enumerate(["a.svm", "b.svm", "deep/c.svm"]):
        rows = slice(100 * k, 100 * (k + 1))
        dump_svmlight_file(X[rows], y[rows], str(tmp_path / name), zero_based=False)
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "notes.md").write_text("none of this")
    settings = dict(n_features=40, zero_based=False, chunk_rows=30)
    assert same_matrix(whole(sources.svmlight(tmp_path, **settings))[0], X)
    assert same_matrix(whole(sources.svmlight(tmp_path / "*.svm", **settings))[0], X[:200])
    names = [str(tmp_path / "b.svm"), str(tmp_path / "a.svm")]
    assert same_matrix(whole(sources.svmlight(names, **settings))[0], X[np.r_[100:200, 0:100]])
    for missing in ("none.svm", "*.none", "deep/none"):
        with pytest.raises(FileNotFoundError, match="none"):
            sources.svmlight(tmp_path / missing)


# Tables.


@pytest.fixture
def frame():
    pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    X, y = dense()
    frame = pd.DataFrame(X, columns=list("abcdef"))
    frame["y"], frame["weight"] = y, np.linspace(1, 2, len(y))
    frame["text"] = [f"no {k}, really" for k in range(len(y))]
    return frame


def write(frame, folder, kind, packed=""):
    path = folder / f"rows.{kind}{packed}"
    if kind == "csv":
        path.write_bytes(PACKERS[packed](frame.to_csv(index=False).encode()))
    else:
        frame.to_parquet(path, row_group_size=64)
    return path


TABLES = [("csv", ""), ("csv", ".gz"), ("csv", ".bz2"), ("parquet", "")]
READ = {"csv": sources.csv, "parquet": sources.parquet}


@pytest.mark.parametrize("chunk_rows", [7, 64, 100, 1000])
@pytest.mark.parametrize(("kind", "packed"), TABLES)
def test_tables(tmp_path, frame, kind, packed, chunk_rows):
    path = write(frame, tmp_path, kind, packed)
    source = READ[kind](
        path, target="y", sample_weight="weight", features=list("abcdef"), chunk_rows=chunk_rows
    )
    assert source.schema.n_features == 6 and source.schema.feature_names == tuple("abcdef")
    assert source.schema.n_rows == (None if kind == "csv" else 300)
    A, b, c = whole(source)
    assert A.flags.c_contiguous and np.array_equal(A, frame[list("abcdef")])
    assert np.array_equal(b, frame["y"]) and np.array_equal(c, frame["weight"])


@pytest.mark.parametrize("kind", READ)
def test_a_column_of_text(tmp_path, frame, kind):
    path = write(frame, tmp_path, kind)
    source = READ[kind](path, target="y", features="text", chunk_rows=50)
    X, _, _ = whole(source)
    assert X.tolist() == frame["text"].tolist()
    hashing = HashingVectorizer(n_features=64)
    model = fit_stream(SGDClassifier(), source, classes=[0, 1], transform=hashing)
    assert model.n_features_in_ == 64


@pytest.mark.parametrize("kind", READ)
def test_columns_of_several_kinds_are_a_frame(tmp_path, frame, kind):
    path = write(frame, tmp_path, kind)
    source = READ[kind](path, target="y", chunk_rows=50)
    X = whole(source)[0]
    assert X.columns.tolist() == [*"abcdef", "weight", "text"]
    assert X["text"].tolist() == frame["text"].tolist() and np.array_equal(X["a"], frame["a"])


@pytest.mark.parametrize("kind", READ)
def test_several_targets(tmp_path, frame, kind):
    path = write(frame, tmp_path, kind)
    source = READ[kind](path, target=["f", "y", "weight"], features=["a", "b"], chunk_rows=50)
    X, Y, _ = whole(source)
    assert np.array_equal(X, frame[["a", "b"]])
    assert np.array_equal(Y, frame[["f", "y", "weight"]])
    cached = source.cached(tmp_path / "copy")
    model = fit_stream(HogwildRegressor(), cached, n_epochs=2, validation=(X, Y))
    assert model.predict(X).shape == Y.shape
    np.testing.assert_allclose(model.history_["validation_score"][-1], model.score(X, Y))
    rest = READ[kind](path, target=["y", "weight", "text"]).schema
    assert rest.feature_names == tuple("abcdef")
    with pytest.raises(ValueError, match="several targets must be numbers: y, text are not"):
        whole(READ[kind](path, target=["y", "text"]))
    with pytest.raises(ValueError, match="target='z' is not a column"):
        whole(READ[kind](path, target=["y", "z"]))


@pytest.mark.parametrize("kind", READ)
def test_text_labels_and_missing_numbers(tmp_path, frame, kind):
    frame["y"] = np.where(frame["y"] == 1, "yes", "no")
    frame.loc[3, "a"] = np.nan
    path = write(frame, tmp_path, kind)
    X, y, _ = whole(READ[kind](path, target="y", features=["a", "b"], chunk_rows=50))
    assert np.isnan(X[3, 0]) and np.isnan(X).sum() == 1
    assert y.tolist() == frame["y"].tolist()


def test_csv_without_names(tmp_path, frame):
    path = tmp_path / "bare.csv"
    frame[list("abcdefy")].to_csv(path, header=False, index=False, sep=";")
    for header, target in [(False, -1), (False, "6"), (list("abcdefy"), "y")]:
        source = sources.csv(path, header=header, target=target, delimiter=";", chunk_rows=40)
        X, y, _ = whole(source)
        assert np.array_equal(X, frame[list("abcdef")]) and np.array_equal(y, frame["y"])


def test_csv_names_are_the_first_line_of_every_file(tmp_path):
    pytest.importorskip("pyarrow")
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text('1,"x, y",02,label\n1,2,3,0\n4,5,6,1\n')
    source = sources.csv(tmp_path, target="label")
    assert source.schema.feature_names == ("1", "x, y", "02")
    assert whole(source)[0].tolist() == [[1, 2, 3], [4, 5, 6]] * 2
    (tmp_path / "c.csv").write_text('"x, y",1,02,label\n1,2,3,0\n')
    with pytest.raises(ValueError, match=r"c\.csv has the columns x, y, 1"):
        whole(sources.csv(tmp_path, target="label"))


def test_csv_types_hold_for_the_whole_file(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "late.csv"
    lines = ["a,b,y", *(f"{k},{k}.5,{k % 2}" for k in range(200_000)), "0.25,,1"]
    path.write_text("\n".join(lines) + "\n")
    X, y, _ = whole(sources.csv(path, target="y"))
    # Only whole numbers stand in the first MiB of a.
    assert X[-1, 0] == 0.25 and np.isnan(X[-1, 1]) and y.dtype == np.int64
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join([*lines[:-1], "x,1,1"]) + "\n")
    source = sources.csv(bad, target="y", shuffle=False)
    with pytest.raises(ValueError, match="x") as caught:
        fit_stream(SGDClassifier(), source, classes=[0, 1])
    assert "bad.csv, bytes" in "".join(caught.value.__notes__)
    as_text = sources.csv(bad, target="y", features="a", types={"a": "string"})
    assert whole(as_text)[0][-1] == "x"


@pytest.mark.parametrize("n", [1000, 30_000])
def test_csv_with_ragged_rows_names_the_place(tmp_path, n):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.csv"
    path.write_text("a,b,y\n" + "0.12345678901234567890,0.12345678901234567890,1\n" * n + "1,2\n")
    source = sources.csv(path, target="y", chunk_rows=300, shuffle=False)
    with pytest.raises(ValueError, match="Expected 3 columns, got 2") as caught:
        fit_stream(SGDClassifier(), source, classes=[0, 1])
    place = "the first MiB" if n == 1000 else "chunk 0 of"
    assert place in caught.value.__notes__[0] and "rows.csv" in caught.value.__notes__[0]


def test_tables_of_several_files(tmp_path, frame):
    for k in range(3):
        write(frame[k * 100 : (k + 1) * 100], tmp_path, "parquet").rename(tmp_path / f"{k}.parquet")
    source = sources.parquet(tmp_path, target="y", features=["a", "f"], dtype=np.float32)
    X, _, _ = whole(source)
    assert X.dtype == np.float32 and np.array_equal(X, frame[["a", "f"]].astype(np.float32))
    frame.drop(columns="a").to_parquet(tmp_path / "9.parquet")
    with pytest.raises(ValueError, match=r"9\.parquet has no column a"):
        whole(sources.parquet(tmp_path, target="y", features=["a", "f"]))
    with pytest.raises(ValueError, match="target='z' is not a column"):
        whole(sources.parquet(tmp_path, target="z"))


def test_several_readers_of_files_give_what_one_gives(tmp_path, frame):
    frame = frame.drop(columns="text")
    X, y = sparse()
    made = [
        sources.svmlight(svmlight_file(tmp_path, X, y), n_features=40, chunk_rows=20),
        sources.csv(write(frame, tmp_path, "csv"), target="y", chunk_rows=20),
        sources.parquet(write(frame, tmp_path, "parquet"), target="y", chunk_rows=20),
    ]
    for source in made:
        one, four = (
            fit_stream(
                SGDClassifier(random_state=0), source, classes=[0, 1], n_epochs=2, n_readers=n
            )
            for n in (1, 4)
        )
        assert np.array_equal(one.coef_, four.coef_)


# Caches.


def cacheable(kind, folder):
    """A source, and a counter of how often its parts were read."""
    X, y = dense() if kind != "sparse" else sparse()
    reads = []

    def count(X, y, w):
        reads.append(len(y))
        return (X, y) if kind != "weights" else (X, y, np.ones(len(y)))

    source = sources.arrays(X.astype(np.float32), y, chunk_rows=40).map(count, key="count")
    return source, reads, folder / "cache"


@pytest.mark.parametrize("kind", ["dense", "sparse", "weights"])
def test_a_cache_gives_the_same_without_reading(tmp_path, kind):
    source, reads, folder = cacheable(kind, tmp_path)
    cached = source.cached(folder)
    first, expected = list(cached), list(source)
    reads.clear()
    for again in (cached, source.cached(folder)):
        for a, b, c in zip(again, first, expected, strict=True):
            for x, y, z in zip(a, b, c, strict=True):
                if x is None:
                    assert y is None and z is None
                    continue
                assert x.dtype == z.dtype
                x, y, z = (m.toarray() if sp.issparse(m) else m for m in (x, y, z))
                assert np.array_equal(x, z) and np.array_equal(y, z)
    assert reads == []


def test_cached_chunks_are_mapped(tmp_path):
    source, _, folder = cacheable("dense", tmp_path)
    list(source.cached(folder))
    for X, _, _ in source.cached(folder):
        assert isinstance(X.base, np.memmap) and X.ctypes.data % 64 == 0


def test_training_from_a_cache_gives_the_same_bits(tmp_path):
    source, reads, folder = cacheable("dense", tmp_path)

    def trained(source):
        model = SGDClassifier(random_state=0)
        return fit_stream(model, source, classes=[0, 1], n_epochs=3, n_readers=2).coef_

    plain = trained(source)
    reads.clear()
    assert np.array_equal(trained(source.cached(folder)), plain)
    assert sum(reads) == 300
    assert np.array_equal(trained(source.cached(folder)), plain)
    assert sum(reads) == 300


@pytest.mark.parametrize("cls", [HogwildClassifier, ParallelSGDClassifier, SGDClassifier])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_every_estimator_trains_on_mapped_chunks(tmp_path, cls, kind):
    source, _, folder = cacheable(kind, tmp_path)
    settings = dict(classes=[0, 1], n_epochs=2, random_state=0)
    plain = fit_stream(cls(), source, **settings)
    mapped = fit_stream(cls(), source.cached(folder), **settings)
    assert np.array_equal(plain.coef_, mapped.coef_)


def test_a_cache_keeps_text_and_rows_without_values(tmp_path):
    texts = ["one", "two words", ""] * 5
    source = sources.arrays(texts, texts, chunk_rows=4).cached(tmp_path / "texts")
    for _ in range(2):
        X, y, _ = whole(source)
        assert X.tolist() == texts == y.tolist()
    empty = sp.csr_matrix((10, 3))
    source = sources.arrays(empty, chunk_rows=4).cached(tmp_path / "empty")
    for _ in range(2):
        assert same_matrix(whole(source)[0], empty)


def test_a_cache_that_was_cut_short_goes_on(tmp_path):
    source, reads, folder = cacheable("dense", tmp_path)
    chunks = iter(source.cached(folder))
    for _ in range(3):
        next(chunks)
    chunks.close()  # in the middle of the third part
    finished = len(list(folder.glob("*.json"))) - 1  # the manifest
    assert finished == 2 and not list(folder.glob("*.tmp"))
    reads.clear()
    expected = whole(source)
    reads.clear()
    assert np.array_equal(whole(source.cached(folder))[0], expected[0])
    assert len(reads) == len(source.parts()) - finished


@pytest.mark.parametrize("damage", ["no places", "half of the places", "short data"])
def test_a_damaged_part_is_read_anew(tmp_path, damage):
    source, reads, folder = cacheable("dense", tmp_path)
    expected = whole(source.cached(folder))
    data, places = sorted(folder.glob("*-part-000002.*"))
    if damage == "no places":
        places.unlink()
    elif damage == "half of the places":
        places.write_bytes(places.read_bytes()[:40])
    else:
        os.truncate(data, data.stat().st_size - 1)
    reads.clear()
    assert np.array_equal(whole(source.cached(folder))[0], expected[0])
    assert len(reads) == 1


def test_a_changed_source_is_read_anew(tmp_path):
    X, y = sparse()
    path = svmlight_file(tmp_path, X, y)
    settings = dict(n_features=40, zero_based=False, cache=tmp_path / "cache", chunk_rows=40)
    assert same_matrix(whole(sources.svmlight(path, **settings))[0], X)
    svmlight_file(tmp_path, 2 * X, y)
    os.utime(path, ns=(1, 1))
    assert same_matrix(whole(sources.svmlight(path, **settings))[0], 2 * X)
    halves = whole(sources.svmlight(path, **settings | dict(dtype=np.float32)))[0]
    assert halves.dtype == np.float32
    coarse = list(sources.svmlight(path, **settings | dict(chunk_rows=100)))
    assert len(coarse) == 3


def test_a_cache_after_a_transform(tmp_path):
    X, y = dense()
    source = sources.arrays(X, y, chunk_rows=50)
    for scaler in (StandardScaler().fit(X), StandardScaler().fit(X + 1)):
        got = whole(source.transform(scaler).cached(tmp_path / "cache"))[0]
        assert np.array_equal(got, scaler.transform(X))


def test_a_cache_of_an_iterator_serves_several_epochs(tmp_path):
    X, y = dense()
    once = sources.iterable(iter([(X, y)]), cache=tmp_path / "cache")
    model = fit_stream(SGDClassifier(), once, classes=[0, 1], n_epochs=3)
    assert model.t_ == 3 * 300 + 1
    other = sources.iterable(iter([(X + 1, y)]), cache=tmp_path / "cache")
    assert np.array_equal(whole(other)[0], X + 1)


def test_what_a_cache_refuses(tmp_path):
    source = sources.arrays(*dense())
    with pytest.raises(ValueError, match="give map a key"):
        source.map(lambda *c: c).cached(tmp_path / "cache")
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(ValueError, match="not a cache"):
        list(source.cached(tmp_path))
    assert (tmp_path / "precious.txt").exists()
    mixed = np.array([1, "a", None], dtype=object)[:, None]
    with pytest.raises(ValueError, match="Python objects"):
        list(sources.arrays(mixed).cached(tmp_path / "cache"))


def test_wrong_parameters_are_named():
    X, y = dense()
    for name, value in [("chunk_rows", 0), ("chunk_rows", 2.5), ("shuffle", "all")]:
        with pytest.raises(ValueError, match=name):
            sources.arrays(X, y, **{name: value})
    with pytest.raises(ValueError, match="X has 300 rows and y has 3"):
        sources.arrays(X, y[:3])
    with pytest.raises(TypeError, match="map needs"):
        sources.arrays(X, y).map("f")
    with pytest.raises(TypeError, match="method transform"):
        sources.arrays(X, y).transform(len)


# Real data.


def test_kdd99_from_its_raw_file(shared_data):
    pytest.importorskip("pyarrow")
    from _common import SHARED_DATA

    expected = shared_data("kdd99")
    source = sources.csv(
        SHARED_DATA / "kdd99" / "kddcup.data_10_percent.gz", header=False, target=-1
    )
    n = attacks = 0
    for X, y, _ in source:
        assert X.shape[1] == 41
        n, attacks = n + len(y), attacks + int((y != "normal.").sum())
    assert (n, attacks) == (len(expected["y"]), int(expected["y"].sum()))


def test_svmlight_of_real_data_both_ways(shared_data):
    from _common import SHARED_DATA

    shared_data("a9a")
    path = SHARED_DATA / "a9a" / "a9a"
    X, y = load_svmlight_file(str(path), n_features=123)
    A, b, _ = whole(sources.svmlight(path, n_features=123, chunk_rows=1000))
    assert same_matrix(A, X) and np.array_equal(b, y)
