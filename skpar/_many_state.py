"""The weights of many outputs as the kernel wants them, and as users do."""

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

    @classmethod
    def starting(cls, start, outputs, *, keep_l1=False, averaged=0.0):
        """Those outputs of `Weights` of matrices (outputs, features)."""
        has_average = start.average is not None
        own = dict(average=has_average, keep_l1=keep_l1, t=start.t, averaged=averaged)
        state = cls(len(outputs), start.w.shape[1], start.w.dtype, **own)
        state.w[:, : state.k] = start.w[outputs].T
        state.of(INTERCEPT)[:] = np.asarray(start.intercept)[outputs]
        if has_average:
            state.average[:, : state.k] = start.average[outputs].T
            state.of(AVERAGE_INTERCEPT)[:] = np.asarray(start.average_intercept)[outputs]
        return state

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
        return np.ascontiguousarray((self.w[:, outputs] * self.of(SCALE)[outputs]).T, self.w.dtype)

    def averages(self, outputs):
        """The averages of their w."""
        a, b = self.of(AVERAGE_A)[outputs], self.of(AVERAGE_B)[outputs]
        values = (self.average[:, outputs] + a * self.w[:, outputs]) / b
        return np.ascontiguousarray(values.T, self.w.dtype)

    def of_average(self):
        """A state whose weights are the average of this one's."""
        result = ManyState(self.k, len(self.w), self.w.dtype, t=self.t)
        a, b = self.vectors[AVERAGE_A], self.vectors[AVERAGE_B]
        result.w[:] = (self.average + a * self.w) / b
        result.vectors[INTERCEPT] = self.vectors[AVERAGE_INTERCEPT]
        result.places = self.places
        return result

    def norms(self):
        """(sums of squares, sums of sizes) of each output's weights."""
        squares, sizes = norms_many(self.w)[:, : self.k]
        return squares * self.of(SCALE) ** 2, sizes * self.of(SCALE)
