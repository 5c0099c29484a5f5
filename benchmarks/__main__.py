"""Run the benchmarks and write a table and a plot.

    python -m benchmarks [--only PART ...] [--scale 1.0] [--rounds 5] [--out benchmarks/results]

Parts: kernels, epoch, scaling, tiny, memory, auto, classes. The files bear the machine's name;
with `--only` they bear the parts' too.
"""

import argparse
import contextlib
import io
import os
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

import skpar
from benchmarks import auto, classes, epoch, kernels, memory, scaling, tiny
from benchmarks._common import Options, machine, slug

PARTS = dict(
    kernels=kernels, epoch=epoch, scaling=scaling, tiny=tiny, memory=memory, auto=auto,
    classes=classes,
)  # fmt: skip


def arguments():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--scale", type=float, default=1.0, help="times the rows of each problem")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def versions():
    """What `skpar.show_versions` prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        skpar.show_versions()
    return text.getvalue()


def main():
    given = arguments()
    options = Options(given.scale, given.rounds, given.max_workers)
    figure, axes = plt.subplots(
        len(given.only), 1, figsize=(9, 4.5 * len(given.only)), squeeze=False, layout="constrained"
    )
    figure.suptitle(machine())
    scale = "" if given.scale == 1 else f", scale {given.scale:g}"
    text = [f"# skpar on {machine()}", f"{time.strftime('%Y-%m-%d')}{scale}"]
    for name, ax in zip(given.only, axes[:, 0], strict=True):
        begin = time.perf_counter()
        tables, figures = PARTS[name].run(options)
        PARTS[name].plot(ax, figures)
        text += [table.markdown() for table in tables]
        print(f"{text[-1]}\n\n({name}: {time.perf_counter() - begin:.0f} s)\n", flush=True)
    text += ["## Versions", f"```\n{versions()}```"]
    parts = [] if len(given.only) == len(PARTS) else given.only
    path = given.out / slug(" ".join([machine(), *parts]))
    given.out.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    figure.savefig(path.with_suffix(".png"), dpi=110)
    print(f"{path}.md\n{path}.png")


if __name__ == "__main__":
    main()
