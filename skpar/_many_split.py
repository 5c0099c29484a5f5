"""How the outputs and the rows of a fit are split among workers.

Outputs that have losses of their own (one-vs-rest, several targets) split into blocks, one a
worker, without any effect on the result; a softmax does not. A worker reads a row once for as
many outputs as a cache line of weights holds, so more blocks than lines gain nothing: what
workers there are beyond split the rows. Wide sparse rows of few outputs are quicker one output
after another, by workers that write the tail of the columns in place.
"""

import numpy as np

from skpar._many_state import LINE_BYTES

# A worker with less than this to do an epoch, in multiply-adds, costs more to wake than it saves.
LEAST_WORK = 1 << 18
# Merging the matrices of several workers costs as much as reading so many numbers for each column.
NUMBERS_A_COLUMN = 64
# What an epoch of all outputs costs beside one of a single output: to read the rows, and for
# each line of weights (seen: 2.2 for one line, 2.9 for two, 14 for thirteen).
READING, LINE = 1.0, 1.2


def lines_of(n_outputs, dtype):
    """Cache lines of a feature's weights."""
    return -(-n_outputs * np.dtype(dtype).itemsize // LINE_BYTES)


def split_of(asked, n_workers, size, least_shard, softmax=False):
    """(blocks of outputs, shards of rows) for so many workers; None for each output alone.

    `asked` is the parameter of the estimators, `size` (numbers read in an epoch, outputs, dtype,
    columns); a shard of the rows has `least_shard` numbers or more.
    """
    work, n_outputs, dtype, n_columns = size
    n_lines = lines_of(n_outputs, dtype)
    alone = max(1, min(n_workers, int(work // least_shard)))
    n_workers = int(max(1, min(n_workers, work * 8 * n_lines // LEAST_WORK)))
    most_shards = max(1, int(work // max(least_shard, NUMBERS_A_COLUMN * n_columns)))
    if softmax:
        return 1, min(n_workers, most_shards)
    if asked == "rows":
        n_shards = min(n_workers, most_shards)
        return (1, n_shards) if n_shards >= alone else None
    if asked == "classes":
        return min(n_workers, n_outputs), 1
    n_blocks = min(n_workers, n_lines)
    n_shards = min(n_workers // n_blocks, most_shards)
    lines_each = -(-n_lines // n_blocks)
    if n_outputs / alone < (READING + LINE * lines_each) / n_shards:
        return None
    return n_blocks, n_shards
