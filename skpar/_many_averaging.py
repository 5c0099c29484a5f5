"""Shards of the rows that train all outputs apart; their matrices are averaged.

As `_averaging` for one weight vector, with one set of directions for all outputs: those of the
rows' mean curvature over the outputs, each output's own curvatures in proportion to its mean.
"""

import numpy as np

from skpar._averaging import round_spans, shares_of
from skpar._data import BLOCK_ROWS
from skpar._kernels.many import look_many
from skpar._kernels.outputs import output_losses
from skpar._kernels.records import Order
from skpar._many_schemes import Block, ManySteps
from skpar._many_split import NUMBERS_A_COLUMN
from skpar._many_state import INTERCEPT, LOSS_SUM, ManyState
from skpar._measures import sample_rows
from skpar._merging import CORNERS, HALVINGS, TOLERANCE, Sample, gain


class ManyAveraging(ManySteps):
    """Every shard trains each block of outputs for a round, then their mean is taken.

    A function of the seed and the numbers of shards and blocks, not of the workers.
    """

    def __init__(self, fit, parts, softmax=False, n_blocks=1, n_shards=1):
        super().__init__(fit, parts, softmax, n_blocks)
        self.name = "model-averaging"
        self.shards = fit.batch.shards(n_shards, fit.shuffle, [fit.seed])
        self.shares = shares_of(self.shards)
        self.block_rows = fit.batch.block_rows if fit.shuffle else BLOCK_ROWS
        most_rounds = int(fit.batch.work // (NUMBERS_A_COLUMN * fit.batch.shape[1]))
        self.spans = round_spans(self.shards, self.block_rows, most_rounds)
        self.n_workers = max(1, min(n_shards * self.n_blocks, fit.team.size))
        self.t = fit.start.t
        for block in self.blocks:
            (state,) = block.states
            state.averaged /= n_shards
            others = [ManyState.like(state) for _ in self.shards[1:]]
            for other in others:
                other.become(state)
            block.states += others
        self.mergers = None
        if fit.problem.learning_rate not in ("pa1", "pa2"):  # which have no step size
            effective = 1.0 / sum(share**2 for share in self.shares)
            at = sample_rows(fit.batch, fit.seed)
            sample = Sample(fit.problem, fit.batch.take(at))
            self.mergers = [Merger(fit, b, parts, sample, at, effective) for b in self.blocks]

    def _train(self, number, recipe, blocks):
        fit, settling = self.fit, number & (number - 1) == 0
        orders = [
            shard.order(fit.shuffle, [fit.seed, number, k], self.block_rows)
            for k, shard in enumerate(self.shards)
        ]
        for block, merger in zip(self.blocks, self.mergers or [], strict=False):
            # Curvatures settle as the model does.
            if settling and block in blocks:
                merger.look(block.states[0])
        for begin, end in self.spans:
            before = [(b.states[0].w * b.states[0].vectors[0], b.states[0]) for b in blocks]
            before = [(w, state.vectors[INTERCEPT].copy()) for w, state in before]
            tasks = [
                (
                    block,
                    k,
                    shard,
                    order,
                    recipe,
                    (begin, min(end or order.n_blocks, order.n_blocks)),
                )
                for block in blocks
                for k, (shard, order) in enumerate(zip(self.shards, orders, strict=True))
            ]
            self._run(tasks)
            self._merge(blocks, before, recipe)

    def _merge(self, blocks, before, recipe):
        seen = sum(state.t - self.t for state in blocks[0].states) if blocks else 0.0
        step, rows = recipe.step_size(self.t + 0.5 * seen), seen / len(self.shards)

        def merge(block, then):
            states = block.states
            for state in states:
                state.settle()
            # What the shards have met counts for all, their weights by their shares.
            met = sum(state.vectors[LOSS_SUM] for state in states)
            mean = ManyState.like(states[0])
            mean.take_mean(states, self.shares)
            if self.mergers is not None:
                self.mergers[self.blocks.index(block)].merge(then, mean, states, step, rows)
            for state in states:
                state.become(mean)
                state.t, state.vectors[LOSS_SUM] = self.t + seen, 0.0
            states[0].vectors[LOSS_SUM] = met
            first = self.fit.problem.average
            states[0].average_is_due = states[0].averaged == 0.0 and self.t + seen > first

        self.fit.team.run(merge, list(zip(blocks, before, strict=True)))
        self.t += seen


class Merger:
    """Turns the mean of the shards' matrices into those of one worker that saw all their rows."""

    def __init__(self, fit, block, parts, sample, rows, n_shards):
        codes, values, weights, classes, factors = parts
        codes, values, weights = (
            None if a is None else np.ascontiguousarray(a[rows]) for a in (codes, values, weights)
        )
        own = codes, values, weights, classes, factors
        self.targets = Block(block.outputs, own, [], block.softmax).targets
        self.fit, self.block, self.sample, self.n_shards = fit, block, sample, n_shards
        self.order = Order(len(rows), 1, None, None)
        self.recipe = fit.recipe(fit.problem.eta0)
        self.parts = None
        if codes is None:
            self.y = values[:, block.outputs]
        elif not block.softmax:  # labels for the losses with corners
            self.y = np.where(codes[:, None] == classes[block.outputs], 1.0, -1.0)

    def objectives(self, state):
        """Over the sample: one of each output, or of a softmax one."""
        problem, softmax = self.fit.problem, self.block.softmax
        own = self.sample.batch.rows, self.targets, self.order, state, self.recipe
        losses = look_many(*own, 0, self.order.n_blocks, softmax) / self.order.n_rows
        squares, sizes = state.norms()
        penalties = 0.5 * problem.l2 * squares + (problem.l1 * sizes if problem.l1 else 0.0)
        return losses + (penalties.sum() if softmax else penalties)

    def look(self, state):
        """Measure the curvatures at these weights, for the merges to come."""
        problem, k = self.fit.problem, state.k
        X = self.sample.X
        scaled = (state.w[:, :k] * state.of(0)).astype(state.w.dtype)
        margins = np.ascontiguousarray(X @ scaled + state.of(INTERCEPT), state.w.dtype)
        c = self._curvatures(margins)
        rows, outputs = c.mean(axis=1), c.mean(axis=0)
        V, values, rest = self.sample.directions(rows, self.fit.seed)
        shares = (outputs / max(float(rows.mean()), 1e-300))[None, :]
        # Of single columns, which may be many, all outputs have the mean.
        rest = None if rest is None else rest[:, None] + problem.l2
        self.parts = V, values[:, None] * shares + problem.l2, rest

    def _curvatures(self, margins):
        """Second derivatives of the rows' losses, corners spread over a typical distance."""
        problem = self.fit.problem
        if problem.loss in CORNERS:
            gap = np.abs(CORNERS[problem.loss] - self.y * margins)
        elif problem.loss == "epsilon_insensitive":
            gap = np.abs(np.abs(margins - self.y) - problem.epsilon)
        else:
            loss = None if self.block.softmax else problem.loss_kernel()
            second = np.empty_like(margins)
            own = self.sample.batch.rows, loss, self.targets, margins, 0, len(margins)
            output_losses(*own, np.zeros(margins.shape[1]), None, second)
            return second.astype(np.float64)
        width = np.maximum(gap.mean(axis=0), 1e-12)
        weights = self.sample.batch.weights
        weights = 1.0 if weights is None else weights[:, None]
        return weights * (gap <= width) / (2.0 * width)

    def merge(self, before, mean, states, step, rows):
        """Move `mean`, the mean of states that began a round of `rows` rows a shard at `before`."""
        V, values, rest = self.parts
        k, dtype = mean.k, mean.w.dtype
        root = np.sqrt(self.sample.intercept_rate) or 1.0
        w0, b0 = mean.w[:, :k].astype(np.float64), mean.of(INTERCEPT).copy()
        change = np.vstack([w0 - before[0][:, :k], (b0 - before[1][:k]) / root])
        along = V.T @ change
        extra = V @ ((gain(self.n_shards, rows, step, values) - 1.0) * along)
        if rest is not None:
            extra += (gain(self.n_shards, rows, step, rest) - 1.0) * (change - V @ along)
        start = ManyState.like(mean)
        start.w[:], start.vectors[INTERCEPT] = before[0], before[1]
        worst = np.max([self.objectives(state) for state in (start, *states[:2])], axis=0)
        share = np.ones(k)
        for _ in range(HALVINGS):
            w = w0 + share * extra[:-1]
            if self.fit.problem.l1 != 0.0:
                # Each shard has paid the l1 penalty: nothing may be carried across zero.
                w = np.where(w * w0 > 0.0, w, 0.0)
            mean.w[:, :k] = w.astype(dtype)
            mean.of(INTERCEPT)[:] = b0 + share * extra[-1] * root
            good = self.objectives(mean) <= TOLERANCE * worst
            if good.all():
                return
            share = np.where(good, share, 0.5 * share)
        good = np.broadcast_to(good, k)
        mean.w[:, :k] = np.where(good, mean.w[:, :k], w0).astype(dtype)
        mean.of(INTERCEPT)[:] = np.where(good, mean.of(INTERCEPT), b0)
