"""
Raw texts in a stream
=====================

Product reviews (Blitzer et al.) from the files in which they were collected: a generator cuts
the texts out of the files, a `HashingVectorizer` in the reader turns them into sparse rows, and
no vocabulary is ever held.

    python examples/stream_reviews.py [folder with books.positive.review and the others]
"""

import sys
from itertools import islice, repeat
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from skpar import HogwildClassifier, fit_stream, sources

default = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "amazon_reviews"
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
if not (folder / "books.positive.review").exists():
    sys.exit(f"The reviews are not at {folder}; give the folder that has them.")

DOMAINS = ("books", "dvd", "electronics", "kitchen")


def texts(path):
    """The reviews of a file, one at a time."""
    inside = None
    with open(path, encoding="latin1") as file:
        for line in file:
            if line.startswith("<review_text>"):
                inside = []
            elif line.startswith("</review_text>"):
                yield " ".join(inside)
                inside = None
            elif inside is not None:
                inside.append(line.strip())


def reviews():
    """(text, label) of all files in turn, so that both labels are in each chunk."""
    files = [
        zip(texts(folder / f"{domain}.{label}.review"), repeat(label), strict=False)
        for domain in DOMAINS
        for label in ("positive", "negative")
    ]
    while files:
        for file in list(files):
            review = next(file, None)
            if review is None:
                files.remove(file)
            else:
                yield review


def chunks(keep, size=500):
    """A function that yields chunks of (texts, labels) of the reviews kept."""

    def make():
        kept = (review for k, review in enumerate(reviews()) if keep(k))
        while chunk := list(islice(kept, size)):
            yield [text for text, _ in chunk], np.array([label for _, label in chunk])

    return make


# Reviews come in rounds of eight, one a file: every fifth round is held out.
train = sources.iterable(chunks(lambda k: k // 8 % 5), fingerprint="reviews, train")
test = sources.iterable(chunks(lambda k: k // 8 % 5 == 0), fingerprint="reviews, test")

model = fit_stream(
    HogwildClassifier(loss="log_loss", alpha=1e-5, random_state=0),
    train,
    classes=["negative", "positive"],
    n_epochs=5,
    transform=HashingVectorizer(ngram_range=(1, 2), alternate_sign=False),
    validation=test,
    early_stopping=True,
    verbose=1,
)

print(f"best accuracy on the held-out reviews: {model.history_['validation_score'].max():.4f}")
