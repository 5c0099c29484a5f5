"""
A raw CSV file in a stream
==========================

KDD Cup 1999, a log of network connections with three columns of text, from its compressed CSV
file into a linear classifier: decompressing, parsing, encoding and scaling happen in a reader
while the chunk before is trained on.

    python examples/stream_kdd99.py [folder with kddcup.data_10_percent.gz and corrected.gz]
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skpar import HogwildClassifier, fit_stream, sources

default = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "kdd99"
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
if not (folder / "kddcup.data_10_percent.gz").exists():
    sys.exit(f"KDD Cup 1999 is not at {folder}; give the folder that has it.")


def intrusions(X, y, sample_weight):
    """The last column names the kind of connection: 1 for whatever is not normal."""
    return X, (y != "normal.").astype(int)


train, test = (
    sources.csv(folder / name, header=False, target=-1).map(intrusions, key="intrusions")
    for name in ("kddcup.data_10_percent.gz", "corrected.gz")
)

# The encoder and the scaler learn from a fiftieth of the rows, in a pass of their own.
sample = pd.concat([X.iloc[::50] for X, _, _ in train])
encode = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["1", "2", "3"]),
    remainder=StandardScaler(),
    sparse_threshold=0,
).fit(sample)

with tempfile.TemporaryDirectory() as cache:
    # From the second epoch on the encoded rows come memory-mapped from the cache.
    model = fit_stream(
        HogwildClassifier(loss="log_loss"),
        train.transform(encode).cached(f"{cache}/train"),
        classes=[0, 1],
        n_epochs=5,
        validation=test.transform(encode).cached(f"{cache}/test"),
        verbose=1,
        random_state=0,
    )

print(f"accuracy on the test file: {model.history_['validation_score'][-1]:.4f}")
