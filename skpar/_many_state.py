"""The weights of many outputs as the kernel wants them, and as users do."""

from dataclasses import dataclass

import numpy as np

from skpar._kernels.many import norms_many

# A row of weights is a whole number of cache lines, which every SIMD level reads in whole vectors.
LINE_BYTES = 64
SCALE, INTERCEPT, RATIO, AVERAGE_A, AVERAGE_B, AVERAGE_INTERCEPT, L1_TOTAL, LOSS_SUM = range(8)


def padded_outputs(k, dtype):
    """k, rounded up to whole cache lines."""
    lanes = LINE_BYTES // np.dtype(dtype).itemsize
    return -(-k // lanes) * lanes


def zeros(d, size, dtype):
    """A matrix that begins on a cache line."""
    dtype = np.dtype(dtype)
    room = np.zeros(d * size + LINE_BYTES // dtype.itemsize, dtype)
    skip = (-room.ctypes.data % LINE_BYTES) // dtype.itemsize
    return room[skip : skip + d * size].reshape(d, size)


@dataclass
class Meeting:
    """Where a worker meets others: every `rows` rows it adds a share of what it has learned since
    `snapshot` to `shared`, and takes over the rest."""

    shared: "ManyState"
    snapshot: "ManyState"
    rows: int
    share: float
    lock: object = None


class ManyState:
    """What the passes of `run_many` read and write.

    Weights are scale * w, with w of shape (features, outputs and padding); `vectors` has a row
    for each of the numbers above and a column an output. An output whose ratio is 0 stays as it
    is.
    """

    def __init__(self, k, d, dtype, *, average=False, keep_l1=False, t=1.0, averaged=0.0):
        self.k, size = k, padded_outputs(k, dtype)
        self.w = zeros(d, size, dtype)
        self.average = zeros(d, size, dtype) if average else None
        self.received = zeros(d, size, dtype) if keep_l1 else None
        self.vectors = np.zeros((8, size))
        self.vectors[[SCALE, AVERAGE_B]] = 1.0
        self.vectors[RATIO, :k] = 1.0
        self.t, self.averaged, self.places = t, averaged, None
        self.meeting = None
        # Whether averages have begun by the count of all shards, but not by this one's.
        self.average_is_due = False

    @classmethod
    def starting(cls, start, outputs, *, keep_l1=False, averaged=0.0):
        """Those outputs of `Weights` of matrices (outputs, features)."""
        has_average = start.average is not None
        own = dict(average=has_average, keep_l1=keep_l1, t=start.t, averaged=averaged)
        state = cls(len(outputs), start.w.shape[1], start.w.dtype, **own)
        if start.w.any():
            state.w[:, : state.k] = start.w[outputs].T
        state.of(INTERCEPT)[:] = np.asarray(start.intercept)[outputs]
        if has_average:
            if start.average.any():
                state.average[:, : state.k] = start.average[outputs].T
            state.of(AVERAGE_INTERCEPT)[:] = np.asarray(start.average_intercept)[outputs]
        return state

    @classmethod
    def like(cls, other):
        """A state of the same shape and places."""
        own = dict(average=other.average is not None, keep_l1=other.received is not None)
        state = cls(other.k, len(other.w), other.w.dtype, **own, t=other.t)
        state.averaged, state.places = other.averaged, other.places
        return state

    @classmethod
    def gathered(cls, columns):
        """A state of single outputs, given as (state, column)."""
        first, _ = columns[0]
        own = dict(average=first.average is not None, keep_l1=first.received is not None)
        result = cls(len(columns), len(first.w), first.w.dtype, **own, t=first.t)
        result.averaged = first.averaged
        for c, (state, at) in enumerate(columns):
            for to, matrix in zip(result.matrices(), state.matrices(), strict=True):
                to[:, c] = matrix[:, at]
            result.vectors[:, c] = state.vectors[:, at]
        return result

    def place_classes(self, classes, n_classes):
        """Output c stands for class classes[c] of n_classes."""
        self.places = np.full(n_classes, -1, dtype=np.int64)
        self.places[classes] = np.arange(len(classes))

    def of(self, number):
        """One of the vectors, as a view without the padding."""
        return self.vectors[number, : self.k]

    def matrices(self):
        return [m for m in (self.w, self.average, self.received) if m is not None]

    def weights(self, outputs):
        """w of shape (outputs, features) for some outputs, this state left as it is."""
        scale = self.of(SCALE)[outputs]
        w = self.w[:, outputs] if len(outputs) < self.k else self.w[:, : self.k]
        return np.multiply(w.T, scale[:, None], out=np.empty(w.shape[::-1], w.dtype))

    def averages(self, outputs):
        """The averages of their w; w itself where none counts yet."""
        if self.average_is_due:
            return self.weights(outputs)
        a, b = self.of(AVERAGE_A)[outputs], self.of(AVERAGE_B)[outputs]
        values = (self.average[:, outputs] + a * self.w[:, outputs]) / b
        return np.ascontiguousarray(values.T, self.w.dtype)

    def of_average(self):
        """A state whose weights are the average of this one's."""
        result = ManyState(self.k, len(self.w), self.w.dtype, t=self.t)
        if self.average_is_due:
            result.w[:] = self.vectors[SCALE] * self.w
            result.vectors[INTERCEPT] = self.vectors[INTERCEPT]
        else:
            a, b = self.vectors[AVERAGE_A], self.vectors[AVERAGE_B]
            result.w[:] = (self.average + a * self.w) / b
            result.vectors[INTERCEPT] = self.vectors[AVERAGE_INTERCEPT]
        result.places = self.places
        return result

    def average_intercepts(self, outputs):
        """Those that belong to `averages`."""
        return self.of(INTERCEPT if self.average_is_due else AVERAGE_INTERCEPT)[outputs]

    def settle(self):
        """Fold the scale and the lazy average into the arrays."""
        if self.average is not None:
            self.average += self.vectors[AVERAGE_A] * self.w
            self.average /= self.vectors[AVERAGE_B]
            self.vectors[AVERAGE_A], self.vectors[AVERAGE_B] = 0.0, 1.0
        self.w *= self.vectors[SCALE].astype(self.w.dtype)
        self.vectors[SCALE] = 1.0

    def take_mean(self, states, shares):
        """Become the weighted mean of settled states, summed in their order; t stays."""
        for name in ("w", "average", "received"):
            if getattr(self, name) is not None:
                total = sum(s * getattr(x, name) for s, x in zip(shares, states, strict=True))
                getattr(self, name)[:] = total
        vectors = sum(s * x.vectors for s, x in zip(shares, states, strict=True))
        self.vectors[:] = vectors

    def become(self, other):
        """Take over all numbers of another state but the counts."""
        for mine, its in zip(self.matrices(), other.matrices(), strict=True):
            mine[:] = its
        self.vectors[:] = other.vectors

    def norms(self):
        """(sums of squares, sums of sizes) of each output's weights."""
        squares, sizes = norms_many(self.w)[:, : self.k]
        return squares * self.of(SCALE) ** 2, sizes * self.of(SCALE)
