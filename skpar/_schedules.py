"""Rates as pure functions: how often replicas merge, how much of a merge counts.

The step sizes themselves are `eta` of `_kernels/sgd.pyx`, a function of the sample number
alone, so that workers need no shared clock.
"""

import numpy as np

# Replicas that add their deltas behave as one while workers x rows x step x curvature stays
# under a few units, and blow up beyond (measured up to 64 workers; see shared design 4.2).
SAFE_PRODUCT = 3.0
MIN_MERGE_ROWS = 8
MAX_MERGE_ROWS = 2000


def merge_rows(n_workers, step, curvature):
    """Rows between two merges of a replica: clamp(3 / (K eta lambda), 8, 2000)."""
    product = n_workers * step * curvature
    if product <= 0:
        return MAX_MERGE_ROWS
    return int(np.clip(SAFE_PRODUCT / product, MIN_MERGE_ROWS, MAX_MERGE_ROWS))


def safe_steps(n_workers, rows, curvatures):
    """The largest step per coordinate at which K replicas may add deltas of `rows` rows each.

    Beyond it a merge adds the share safe / eta of a delta, at least 1/K: a plain average.
    """
    return SAFE_PRODUCT / np.maximum(n_workers * rows * np.asarray(curvatures), 1e-300)
