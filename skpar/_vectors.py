"""Long arrays of a row for each feature and a column for each output, side by side and in place."""

from itertools import pairwise

import numpy as np

from skpar._kernels.vectors import combination, products

# Vectors of more numbers are worked on in parts, at most so many.
VECTOR_NUMBERS = 1 << 16
MOST_PARTS = 16
# Numbers of a vector worked on together.
PIECE_NUMBERS = 1 << 14


class Vectors:
    """Sums and products of arrays of `size` rows and k columns.

    Where `together`, all columns are one vector; else each is one. `in_spans` runs a function of
    spans on the workers.
    """

    def __init__(self, in_spans, size, k, together):
        self.in_spans, self.size, self.k, self.together = in_spans, size, k, together
        self.spare = {}

    def dots(self, a, b):
        """Inner products: one for each objective."""
        return self.products([a], [b])[0, 0]

    def room(self, rows, dtype=np.float64):
        """An array of so many rows that nobody needs: new memory costs more than a pass over it."""
        spare = self.spare.get((rows, np.dtype(dtype)))
        return spare.pop() if spare else np.empty((rows, self.k), dtype)

    def release(self, *arrays):
        """Give back what came from `room`."""
        for array in arrays:
            self.spare.setdefault((len(array), array.dtype), []).append(array)

    def _flat(self, arrays):
        """Of the softmax's one objective all numbers are alike."""
        return [a.reshape(-1, 1) for a in arrays] if self.together else arrays

    def _in_parts(self, function, rows, vectors):
        """`function(lo, hi)` over parts of so many rows of so many vectors."""
        work = self.size * self.k * vectors
        parts = int(np.clip(self.size * self.k // VECTOR_NUMBERS, 1, MOST_PARTS))
        return self.in_spans(function, cut(rows, parts), work)

    def in_pieces(self, function, vectors=3):
        """`function(slice)` over pieces of the rows of so many vectors, small enough to stay in
        the cache between its operations."""
        rows = max(64, PIECE_NUMBERS // self.k)

        def part(lo, hi):
            for a in range(lo, hi, rows):
                function(slice(a, min(a + rows, hi)))

        self._in_parts(part, self.size, vectors)

    def products(self, left, right):
        """Inner products of each with each, for each objective: (left, right, objectives)."""
        left, right = self._flat(left), self._flat(right)

        def part(lo, hi):
            return products(left, right, lo, hi)

        vectors = max(len(left), len(right))
        return sum(self._in_parts(part, len(right[0]), vectors))

    def combination(self, coef, arrays):
        """sum_a coef_a arrays_a, coef one for each objective."""
        result = self.room(self.size)
        to, arrays = self._flat([result])[0], self._flat(arrays)

        def part(lo, hi):
            combination(coef, arrays, lo, hi, to)

        self._in_parts(part, len(to), len(arrays))
        return result


def cut(n, parts):
    """0 to n in so many spans."""
    edges = np.linspace(0, n, min(n, parts) + 1).astype(int).tolist()
    return list(pairwise(edges))
