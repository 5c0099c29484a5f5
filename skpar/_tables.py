"""CSV and Parquet files through pyarrow: columns of a table become X, y and sample_weight."""

from contextlib import closing

import numpy as np

from skpar._chunks import digest, file_stamp, pieces
from skpar._source import Schema, Source
from skpar._text import TextFiles, opened

LARGEST_BLOCK = 2**31 - 1  # parsed in one go, so that each column is one piece


def import_pyarrow():
    """pyarrow, or an error that says how to get it."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "CSV and Parquet sources need pyarrow: pip install 'skpar[io]'"
        ) from error
    return pyarrow


class Columns:
    """Which columns of a table are X, y and sample_weight, and how they become arrays.

    Parameters
    ----------
    fields : pyarrow.Schema
        All columns of the table.
    target, sample_weight : str or int or None
        A column's name or place; `target` may be a list, of which y has a column each.
    features : list of str or int, str, int or None
        Columns of X; None means all others, and one name means that column as a list of
        values, as text vectorizers want it.
    dtype : numpy.dtype or None
        Of X where it is numeric; None is float32 where all columns are, else float64.
    """

    def __init__(self, fields, target, features, sample_weight, dtype):
        import pyarrow as pa

        self.names = list(fields.names)
        self.several = isinstance(target, (list, tuple))
        given = target if self.several else [] if target is None else [target]
        self.targets = [self._name(name, "target") for name in given]
        self.sample_weight = self._name(sample_weight, "sample_weight")
        self.single = features is not None and isinstance(features, (str, int))
        if features is None:
            taken = (*self.targets, self.sample_weight)
            self.features = [name for name in self.names if name not in taken]
        elif self.single:
            self.features = [self._name(features, "features")]
        else:
            self.features = [self._name(name, "features") for name in features]
        kinds = [fields.field(name).type for name in self.features]
        self.numeric = not self.single and all(map(_is_number, kinds))
        single_precision = all(k in (pa.float32(), pa.float16()) for k in kinds)
        default = np.float32 if single_precision else np.float64
        self.dtype = np.dtype(default if dtype is None else dtype)

    def _name(self, column, parameter):
        if column is None or column in self.names:
            return column
        if isinstance(column, int) and -len(self.names) <= column < len(self.names):
            return self.names[column]
        raise ValueError(
            f"{parameter}={column!r} is not a column; the columns are {', '.join(self.names)}"
        )

    @property
    def used(self):
        """Names of the columns to read."""
        names = [*self.features, *self.targets, self.sample_weight]
        return [name for name in dict.fromkeys(names) if name is not None]

    def schema(self, n_rows=None):
        """What the source can say of itself."""
        if self.single:
            return Schema(n_rows=n_rows)
        dtype = self.dtype if self.numeric else None
        return Schema(len(self.features), n_rows, dtype, False, tuple(self.features))

    def chunk(self, table):
        """(X, y, sample_weight) of a table or a record batch."""
        if self.single:
            X = _values(table, self.features[0])
        elif self.numeric:
            X = self._matrix(table)
        else:
            X = table.select(self.features).to_pandas()
        weight = None
        if self.sample_weight is not None:
            weight = _values(table, self.sample_weight).astype(np.float64)
        return X, self._y(table), weight

    def _y(self, table):
        columns = [_values(table, name) for name in self.targets]
        if not self.several:
            return columns[0] if columns else None
        Y = np.stack(columns, axis=1)
        if Y.dtype.kind not in "biuf":
            raise ValueError(f"several targets must be numbers: {', '.join(self.targets)} are not")
        return Y

    def _matrix(self, table):
        # Column by column; all rows at once was faster than tiles that fit the cache.
        X = np.empty((table.num_rows, len(self.features)), dtype=self.dtype)
        for k, name in enumerate(self.features):
            X[:, k] = _numbers(table.column(name))
        return X


def _numbers(column):
    if column.null_count:
        # numpy's integers have no "missing".
        column = column.cast("float64")
    # A table's columns are chunked, a record batch's are not, and refuse to copy unless told.
    return column.to_numpy(zero_copy_only=False)


def _values(table, name):
    """A column as an array of numbers or, where it is text, of str."""
    column = table.column(name)
    if _is_number(column.type):
        return _numbers(column)
    items = column.to_pylist()
    if any(item is None for item in items):
        raise ValueError(f"column {name} has missing values (row {items.index(None)} of the chunk)")
    # Objects keep long texts at their own length; labels are short.
    short = all(isinstance(item, str) for item in items) and max(map(len, items), default=0) < 256
    return np.array(items) if short else np.array(items, dtype=object)


def _is_number(kind):
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


class Csv(TextFiles):
    """Comma-separated files; plain ones are cut by bytes at the ends of lines."""

    def __init__(self, files, options, chunk_rows, shuffle):
        import_pyarrow()
        header = options["header"]
        super().__init__(files, chunk_rows, shuffle, skip_lines=1 if header is True else 0)
        self.options = options
        self._columns = self._types = None

    def _column_names(self):
        header = self.options["header"]
        if header is True:
            names = [self._header(path) for path in self.files]
            for path, other in zip(self.files, names, strict=True):
                if other != names[0]:
                    raise ValueError(
                        f"{path} has the columns {', '.join(other)}, where {self.files[0]} has "
                        f"{', '.join(names[0])}"
                    )
            return names[0]
        if header is False:
            line = self.head().split(b"\n", 1)[0] + b"\n"
            return [str(k) for k in range(self._read(line, None).num_columns)]
        return list(header)

    def _header(self, path):
        with opened(path) as file:
            return self._read(file.readline(), []).column_names

    def _read(self, text, names, types=None, used=None):
        """A table; `names` None makes them up, [] takes them from the first line."""
        import pyarrow as pa
        from pyarrow import csv

        return csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(
                column_names=names,
                autogenerate_column_names=names is None,
                use_threads=False,
                block_size=min(LARGEST_BLOCK, len(text) + 1),
            ),
            parse_options=csv.ParseOptions(delimiter=self.options["delimiter"]),
            convert_options=csv.ConvertOptions(column_types=types, include_columns=used),
        )

    @property
    def columns(self):
        """Which column is what; the first MiB of the first file decides their types."""
        if self._columns is None:
            import pyarrow as pa

            names = self._column_names()
            given = {k: pa.type_for_alias(v) for k, v in (self.options["types"] or {}).items()}
            try:
                fields = self._read(self.head(), names, given).schema
            except pa.ArrowInvalid as error:
                error.add_note(f"in the first MiB of {self.files[0]}")
                raise
            self._names = names
            # A column of integers may hold fractions further on; one without values, numbers.
            wide = {pa.int64(): pa.float64(), pa.null(): pa.float64(), pa.bool_(): pa.bool_()}
            chosen = [self.options[k] for k in ("target", "features", "sample_weight")]
            columns = Columns(fields, *chosen, self.options["dtype"])
            own = {name: fields.field(name).type for name in columns.used}
            if not columns.several:  # a label stays what it is
                given = {name: own[name] for name in columns.targets} | given
            self._types = {name: given.get(name, wide.get(k, k)) for name, k in own.items()}
            self._columns = columns
        return self._columns

    @property
    def schema(self):
        return self.columns.schema()

    def parts(self):
        # Before readers share this object: columns are looked up once.
        _ = self.columns
        return super().parts()

    def parse(self, text):
        columns = self.columns
        return columns.chunk(self._read(text, self._names, self._types, columns.used))

    def fingerprint(self):
        return digest([*self.stamps(), {k: str(v) for k, v in self.options.items()}])


class Parquet(Source):
    """Parquet files; a part is a row group, or several small ones of a file."""

    def __init__(self, files, options, chunk_rows, shuffle):
        import_pyarrow()
        super().__init__(chunk_rows, shuffle)
        self.files, self.options = files, options
        self._metadata = self._columns = None

    def _look(self):
        if self._metadata is None:
            from pyarrow import parquet

            metadata = [parquet.read_metadata(path) for path in self.files]
            first = metadata[0].schema.to_arrow_schema()
            chosen = [self.options[k] for k in ("target", "features", "sample_weight", "dtype")]
            self._columns = Columns(first, *chosen)
            for path, other in zip(self.files, metadata, strict=True):
                names = other.schema.to_arrow_schema().names
                missing = [name for name in self._columns.used if name not in names]
                if missing:
                    raise ValueError(
                        f"{path} has no column {', '.join(missing)}, which {self.files[0]} has"
                    )
            self._metadata = metadata

    @property
    def schema(self):
        self._look()
        return self._columns.schema(sum(m.num_rows for m in self._metadata))

    def parts(self):
        self._look()
        parts = []
        for k, metadata in enumerate(self._metadata):
            first, rows = 0, 0
            for group in range(metadata.num_row_groups):
                rows += metadata.row_group(group).num_rows
                last = group == metadata.num_row_groups - 1
                if last or rows + metadata.row_group(group + 1).num_rows > self.chunk_rows:
                    if rows:
                        parts.append((k, first, group + 1, rows))
                    first, rows = group + 1, 0
        return parts

    def label(self, part):
        return f"{self.files[part[0]]}, row groups {part[1]} to {part[2] - 1}"

    def read(self, part):
        from pyarrow import parquet

        k, first, end, rows = part
        groups, columns = list(range(first, end)), self._columns
        with closing(
            parquet.ParquetFile(self.files[k], metadata=self._metadata[k], pre_buffer=False)
        ) as file:
            if len(pieces(rows, self.chunk_rows)) == 1:
                table = file.read_row_groups(groups, columns.used, use_threads=False)
                yield columns.chunk(table)
                return
            size = -(-rows // len(pieces(rows, self.chunk_rows)))
            for batch in file.iter_batches(size, groups, columns.used, use_threads=False):
                if batch.num_rows:
                    yield columns.chunk(batch)

    def fingerprint(self):
        options = {k: str(v) for k, v in self.options.items()}
        return digest([self.chunk_rows, *map(file_stamp, self.files), options])
