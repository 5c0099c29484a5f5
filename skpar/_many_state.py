"""The weights of many outputs as the kernel wants them, and as users do."""

import numpy as np

# A row of weights is a whole number of cache lines, which every SIMD level reads in whole vectors.
LINE_BYTES = 64
SCALE, INTERCEPT, RATIO, AVERAGE_A, AVERAGE_B, AVERAGE_INTERCEPT, L1_TOTAL, LOSS_SUM = range(8)


def laid_out(coef, size):
    """A copy of (outputs, features) as features x `size`, on whole cache lines, zeros behind."""
    k, d = coef.shape
    room = np.zeros(d * size + LINE_BYTES // coef.itemsize, coef.dtype)
    skip = (-room.ctypes.data % LINE_BYTES) // coef.itemsize
    w = room[skip : skip + d * size].reshape(d, size)
    w[:, :k] = coef.T
    return w


class ManyState:
    """What the passes of `run_many` read and write.

    Weights are scale * w, with w of shape (features, outputs padded); `vectors` has one row for
    each of the numbers above, one column an output.
    """

    def __init__(self, start, *, keep_l1=False, averaged=0.0):
        coef = start.w
        self.k, self.d = coef.shape
        lanes = LINE_BYTES // coef.itemsize
        size = -(-self.k // lanes) * lanes
        self.w = laid_out(coef, size)
        self.average = None if start.average is None else laid_out(start.average, size)
        self.received = laid_out(np.zeros_like(coef), size) if keep_l1 else None
        self.vectors = np.zeros((8, size))
        self.vectors[[SCALE, AVERAGE_B]] = 1.0
        self.vectors[INTERCEPT, : self.k] = start.intercept
        self.vectors[AVERAGE_INTERCEPT, : self.k] = start.average_intercept
        self.vectors[RATIO, : self.k] = 1.0
        self.t, self.averaged = start.t, averaged
        self.places = None

    def place_classes(self, classes, n_classes):
        """Output c stands for class classes[c] of n_classes."""
        self.places = np.full(n_classes, -1, dtype=np.int64)
        self.places[classes] = np.arange(len(classes))

    def of(self, number):
        """One of the vectors, as a view."""
        return self.vectors[number, : self.k]

    def plain(self):
        """(w, average) of shape (outputs, features), this state left as it is."""
        return self._plain_weights(), self._plain_average()

    def _plain_weights(self):
        w = self.w[:, : self.k].T
        scale = self.of(SCALE)[:, None]
        return np.ascontiguousarray(w if (scale == 1.0).all() else w * scale, self.w.dtype)

    def _plain_average(self):
        if self.average is None:
            return None
        average, w = self.average[:, : self.k].T, self.w[:, : self.k].T
        a, b = self.of(AVERAGE_A)[:, None], self.of(AVERAGE_B)[:, None]
        return np.ascontiguousarray((average + a * w) / b, self.w.dtype)
