"""Where chunks come from: arrays, files, Dask, and whatever Python can iterate over."""

import numpy as np

from skpar._source import Schema, Source
from skpar._sources_memory import Arrays, DaskArrays, Iterable
from skpar._tables import Csv, Parquet
from skpar._text import Svmlight, files_of

__all__ = ["Schema", "Source", "arrays", "csv", "dask_array", "iterable", "parquet", "svmlight"]

CHUNK_ROWS = 65_536


def _finished(source, cache):
    return source if cache is None else source.cached(cache)


def arrays(X, y=None, sample_weight=None, *, chunk_rows=CHUNK_ROWS, shuffle="chunks", cache=None):
    """Rows of arrays in memory or memory-mapped ones.

    Parameters
    ----------
    X : array, np.memmap, CSR matrix, DataFrame or list
        The rows. A `np.memmap` is read piece by piece, so that its pages do not pile up.
    y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
        Targets; may be a np.memmap too.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    chunk_rows : int, default=65536
        About how many rows make a chunk.
    shuffle : bool, "chunks" or "rows", default="chunks"
        What is in random order in an epoch: the chunks, the rows inside each, both (True) or
        neither (False). The default leaves the rows to the estimator.
    cache : str or path-like, default=None
        Folder for a binary copy, see :meth:`Source.cached`.

    Returns
    -------
    source : Source
        For `fit_stream`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpar import sources
    >>> source = sources.arrays(np.zeros((10, 3)), np.arange(10), chunk_rows=5)
    >>> [X.shape for X, y, sample_weight in source]
    [(5, 3), (5, 3)]
    """
    return _finished(Arrays(X, y, sample_weight, chunk_rows, shuffle), cache)


def iterable(chunks, *, chunk_rows=None, shuffle=False, cache=None, fingerprint=None):
    """Chunks that Python code makes.

    Parameters
    ----------
    chunks : iterable or callable
        Gives X, `(X, y)` or `(X, y, sample_weight)` for each chunk. A function is called anew
        in each epoch and returns an iterable; an iterator serves one epoch.
    chunk_rows : int, default=None
        Join and cut the chunks to about this many rows; None leaves them as they are.
    shuffle : bool or "rows", default=False
        Whether to shuffle the rows inside each chunk; the chunks keep their order.
    cache : str or path-like, default=None
        Folder for a binary copy, see :meth:`Source.cached`. Without a `fingerprint` it serves
        this source object only.
    fingerprint : str, default=None
        A name for the rows, to be changed when they are; it tells a cache and a checkpoint
        whether they are those of before.

    Returns
    -------
    source : Source
        For `fit_stream`. It has one part, which one reader reads.

    Examples
    --------
    >>> import numpy as np
    >>> from skpar import sources
    >>> def chunks():
    ...     for k in range(3):
    ...         yield np.full((4, 2), k), np.zeros(4)
    >>> len(list(sources.iterable(chunks)))
    3
    """
    return _finished(Iterable(chunks, chunk_rows, shuffle, fingerprint), cache)


def svmlight(
    path,
    *,
    n_features=None,
    zero_based="auto",
    dtype=np.float64,
    chunk_rows=CHUNK_ROWS,
    shuffle="chunks",
    cache=None,
):
    """Svmlight (libsvm) text files, plain or compressed, as CSR.

    Plain files are cut by bytes, so several readers can parse them at once; .gz, .bz2 and .xz
    files are read from their start, one reader a file. With pyarrow installed the text is
    parsed several times faster, and without the GIL.

    Parameters
    ----------
    path : str, path-like or list of these
        Files, folders (.svm, .svmlight, .libsvm, .txt and their compressed forms) or globs.
    n_features : int, default=None
        Columns; None counts them by reading everything once before the first epoch.
    zero_based : bool or "auto", default="auto"
        Whether the first column is number 0; "auto" looks for a 0 in the first MiB.
    dtype : dtype, default=np.float64
        Type of the numbers; np.float32 takes half of the memory.
    chunk_rows : int, default=65536
        About how many rows make a chunk, judged by the length of the first lines.
    shuffle : bool, "chunks" or "rows", default="chunks"
        As in :func:`arrays`; a compressed file counts as one chunk.
    cache : str or path-like, default=None
        Folder for a binary copy, see :meth:`Source.cached`.

    Returns
    -------
    source : Source
        For `fit_stream`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from skpar import sources
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "rows.svm"
    >>> _ = file.write_text("1 1:0.5 3:2\\n-1 2:1\\n")
    >>> [(X, y, _)] = sources.svmlight(file, n_features=3)
    >>> X.toarray().tolist(), y.tolist()
    ([[0.5, 0.0, 2.0], [0.0, 1.0, 0.0]], [1.0, -1.0])
    """
    kinds = (".svm", ".svmlight", ".libsvm", ".txt")
    suffixes = tuple(kind + packed for kind in kinds for packed in ("", ".gz", ".bz2", ".xz"))
    if zero_based not in (True, False, "auto"):
        raise ValueError(f"zero_based must be True, False or 'auto', got {zero_based!r}")
    files = files_of(path, suffixes, "svmlight")
    return _finished(Svmlight(files, n_features, zero_based, dtype, chunk_rows, shuffle), cache)


def csv(
    path,
    *,
    target=None,
    features=None,
    sample_weight=None,
    header=True,
    delimiter=",",
    types=None,
    dtype=None,
    chunk_rows=CHUNK_ROWS,
    shuffle="chunks",
    cache=None,
):
    """CSV files, plain or compressed; needs pyarrow (`pip install 'skpar[io]'`).

    Plain files are cut by bytes at ends of lines, so several readers can parse them at once
    and a quoted value must not hold a line end; .gz, .bz2 and .xz files are read from their
    start, one reader a file. The first MiB tells the types of the columns.

    Parameters
    ----------
    path : str, path-like or list of these
        Files, folders (.csv and its compressed forms) or globs.
    target : str or int, or list of these, default=None
        Name or place of the column y; a list, of numbers, makes y a matrix of several targets.
    features : list of str or int, or one of these, default=None
        Columns of X; None means all that are neither target nor weight. One name instead of a
        list makes X that column's values, as text vectorizers want them.
    sample_weight : str or int, default=None
        Name or place of the column of weights.
    header : bool or list of str, default=True
        Whether the first line of each file names the columns; False names them "0", "1", ...,
        and a list gives the names of files without such a line.
    delimiter : str, default=","
        What separates the values.
    types : dict, default=None
        Types of columns by name, as pyarrow calls them ("float64", "int64", "string", ...),
        where the first MiB tells the wrong ones.
    dtype : dtype, default=None
        Type of the numbers in X, float64 by default.
    chunk_rows : int, default=65536
        About how many rows make a chunk, judged by the length of the first lines.
    shuffle : bool, "chunks" or "rows", default="chunks"
        As in :func:`arrays`; a compressed file counts as one chunk.
    cache : str or path-like, default=None
        Folder for a binary copy, see :meth:`Source.cached`.

    Returns
    -------
    source : Source
        For `fit_stream`. X is an array where all its columns are numbers, and otherwise a
        pandas DataFrame, for a `transform` to turn into numbers.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from skpar import sources
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "rows.csv"
    >>> _ = file.write_text("a,b,label\\n1,2,no\\n3,4,yes\\n")
    >>> [(X, y, _)] = sources.csv(file, target="label")
    >>> X.tolist(), y.tolist()
    ([[1.0, 2.0], [3.0, 4.0]], ['no', 'yes'])
    """
    suffixes = tuple(".csv" + packed for packed in ("", ".gz", ".bz2", ".xz"))
    options = dict(
        target=target,
        features=features,
        sample_weight=sample_weight,
        header=header,
        delimiter=delimiter,
        types=types,
        dtype=dtype,
    )
    return _finished(Csv(files_of(path, suffixes, "CSV"), options, chunk_rows, shuffle), cache)


def parquet(
    path,
    *,
    target=None,
    features=None,
    sample_weight=None,
    dtype=None,
    chunk_rows=CHUNK_ROWS,
    shuffle="chunks",
    cache=None,
):
    """Parquet files; needs pyarrow (`pip install 'skpar[io]'`).

    Several readers share the row groups. A reader decodes one row group at a time, so files
    with groups of at most some 100,000 rows take the least memory.

    Parameters
    ----------
    path : str, path-like or list of these
        Files, folders (.parquet, .pq) or globs. Columns hidden in the names of folders
        (`day=1/`) are not read.
    target : str or int, or list of these, default=None
        Name or place of the column y; a list, of numbers, makes y a matrix of several targets.
    features : list of str or int, or one of these, default=None
        Columns of X; None means all that are neither target nor weight. One name instead of a
        list makes X that column's values, as text vectorizers want them.
    sample_weight : str or int, default=None
        Name or place of the column of weights.
    dtype : dtype, default=None
        Type of the numbers in X; None is float32 where all columns are, else float64.
    chunk_rows : int, default=65536
        About how many rows make a chunk.
    shuffle : bool, "chunks" or "rows", default="chunks"
        As in :func:`arrays`; a row group of several chunks counts as one.
    cache : str or path-like, default=None
        Folder for a binary copy, see :meth:`Source.cached`.

    Returns
    -------
    source : Source
        For `fit_stream`. X is an array where all its columns are numbers, and otherwise a
        pandas DataFrame, for a `transform` to turn into numbers.
    """
    options = dict(target=target, features=features, sample_weight=sample_weight, dtype=dtype)
    files = files_of(path, (".parquet", ".pq"), "Parquet")
    return _finished(Parquet(files, options, chunk_rows, shuffle), cache)


def dask_array(
    X, y=None, sample_weight=None, *, chunk_rows=CHUNK_ROWS, shuffle="chunks", cache=None
):
    """Dask arrays, computed block by block in the readers.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features)
        The rows; their number must be known.
    y : dask.array.Array of shape (n_samples,) or (n_samples, n_targets), default=None
        Targets.
    sample_weight : dask.array.Array of shape (n_samples,), default=None
        Weights of the rows.
    chunk_rows : int, default=65536
        About how many rows make a chunk; the arrays are rechunked to this.
    shuffle : bool, "chunks" or "rows", default="chunks"
        As in :func:`arrays`.
    cache : str or path-like, default=None
        Folder for a binary copy, see :meth:`Source.cached`.

    Returns
    -------
    source : Source
        For `fit_stream`.
    """
    return _finished(DaskArrays(X, y, sample_weight, chunk_rows, shuffle), cache)
