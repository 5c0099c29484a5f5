"""Memory as long as the columns, or for a Hessian of them, kept from one fit to the next.

The system hands out new pages one by one as they are first touched. On wide rows that takes as
long as an epoch: 2 us for 4 KiB on a virtual machine, where reading them takes 0.2 us.
"""

import numpy as np

# What one process keeps, at most.
MOST_NUMBERS = 1 << 22
# At most one array: taken and put back whole, which is atomic, so that fits may run at once.
_kept = []


class Scratch:
    """Zeros in `array`, which nobody may use when this is gone."""

    def __init__(self, size):
        try:
            room = _kept.pop()
        except IndexError:
            room = None
        # Written at once: `np.zeros` would have each page come twice, to be read and to be written.
        self.room = np.empty(size) if room is None or room.size < size else room
        self.array = self.room[:size]
        self.array.fill(0.0)

    def __del__(self):
        if not _kept and self.room.size <= MOST_NUMBERS:
            _kept.append(self.room)
