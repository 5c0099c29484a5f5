"""Many outputs by stochastic steps: who owns which outputs and which rows.

All outputs of a worker are trained in one read of each row. Outputs that have losses of their own
(one-vs-rest, several targets) may be split into blocks, one a worker, which changes no bit.
"""

from copy import copy

import numpy as np

from skpar._kernels.many import look_many, run_many
from skpar._kernels.outputs import Targets
from skpar._kernels.records import Order
from skpar._many_split import lines_of
from skpar._many_state import (
    INTERCEPT,
    LOSS_SUM,
    RATIO,
    ManyState,
    padded_outputs,
)
from skpar._measures import SERIAL_NUMBERS, sample_spans
from skpar._schemes import Weights

# Outputs whose fit has ended leave the reads once the lines of weights fall below this share.
WORTH_LEAVING = 0.75


class Block:
    """Some of the outputs: their targets, and the state of each shard."""

    def __init__(self, outputs, parts, states, softmax=False, n_classes=None):
        codes, values, weights, classes, factors = parts
        self.outputs, self.states = outputs, states
        values = None if values is None else np.ascontiguousarray(values[:, outputs])
        classes = None if classes is None else np.ascontiguousarray(classes[outputs])
        self.n_classes = n_classes or len(factors)
        self.targets = Targets(codes, values, weights, classes, factors[outputs])
        self.softmax = softmax
        if codes is not None and not softmax:
            for state in states:
                state.place_classes(classes, self.n_classes)


class ManySteps:
    """One weight vector for each output: what `train_many` asks of a scheme.

    `fit.start` holds weights of shape (outputs, features); `parts` is the arguments of `Targets`.
    Rows are those of the batch in use, one after another.
    """

    def __init__(self, fit, parts, softmax=False, n_blocks=1):
        self.fit, self.parts, self.softmax = fit, parts, softmax
        self.k = len(parts[4])
        self.n_blocks = 1 if softmax else min(n_blocks, self.k)
        self.name = "sequential" if self.n_blocks == 1 else "model-parallel"
        self.n_workers = self.n_blocks
        averaged = max(0.0, fit.start.t - fit.problem.average)
        own = dict(keep_l1=fit.problem.l1 != 0.0, averaged=averaged)
        self.blocks = []
        for outputs in np.array_split(np.arange(self.k), self.n_blocks):
            state = ManyState.starting(fit.start, outputs, **own)
            self.blocks.append(Block(outputs, parts, [state], softmax))
        self.loss_sum = np.zeros(self.n_objectives)

    def may_leave(self, n_kept):
        """Whether fewer outputs would make the reads shorter; not where workers share weights."""
        dtype = self.fit.batch.values.dtype
        shorter = lines_of(n_kept, dtype) < WORTH_LEAVING * lines_of(self.k, dtype)
        return type(self) is ManySteps and not self.softmax and shorter and n_kept > 0

    def only(self, kept):
        """The scheme of some of the outputs, as they stand."""
        codes, values, weights, classes, factors = self.parts
        values = None if values is None else np.ascontiguousarray(values[:, kept])
        classes = None if classes is None else classes[kept]
        other = copy(self)
        other.parts = codes, values, weights, classes, factors[kept]
        other.k, other.loss_sum, other.blocks = len(kept), np.zeros(len(kept)), []
        n_blocks = min(self.n_blocks, len(kept))
        for outputs in np.array_split(np.arange(len(kept)), n_blocks):
            state = ManyState.gathered([self._at(c) for c in kept[outputs]])
            n_classes = self.blocks[0].n_classes
            other.blocks.append(Block(outputs, other.parts, [state], n_classes=n_classes))
        return other

    def _at(self, output):
        """(the state that has an output, its column there)."""
        block = next(b for b in self.blocks if b.outputs[0] <= output <= b.outputs[-1])
        return block.states[0], output - block.outputs[0]

    @property
    def n_objectives(self):
        return 1 if self.softmax else self.k

    # -- training -------------------------------------------------------------------------

    def epoch(self, number, steps):
        """Train with the first step size steps[k] of output k; one that is 0 stays as it is."""
        fit, base = self.fit, float(steps.max())
        recipe = fit.recipe(base, average=fit.problem.average)
        active = []
        for block in self.blocks:
            own = (steps / base)[block.outputs]
            for state in block.states:
                state.of(RATIO)[:] = own
                state.vectors[LOSS_SUM] = 0.0
            if own.any():
                active.append(block)
        self._train(number, recipe, active)
        for block in self.blocks:
            at = slice(None) if self.softmax else block.outputs
            self.loss_sum[at] = block.states[0].of(LOSS_SUM)[: len(self.loss_sum[at])]

    def _train(self, number, recipe, blocks):
        order = self.fit.batch.order(self.fit.shuffle, [self.fit.seed, number])
        tasks = [(block, 0, self.fit.batch, order, recipe) for block in blocks]
        self._run(tasks)

    def _run(self, tasks):
        """Tasks: a block, the index of its state, rows, their order, recipe (and the span)."""
        stopped = []

        def work(block, index, batch, order, recipe, span=None):
            state, chunk = block.states[index], batch.chunk_blocks(order.block_size)
            # Calls of about a millisecond, so that signals are heard.
            chunk = max(1, chunk * 8 // state.w.shape[1])
            begin, end = span or (0, order.n_blocks)
            for lo in range(begin, end, chunk):
                if stopped:
                    return
                own = batch.rows, block.targets, order, state, recipe, lo, min(lo + chunk, end)
                run_many(*own, block.softmax)

        self.fit.team.run(work, tasks, lambda: stopped.append(True))

    # -- what is known of the weights -----------------------------------------------------

    def penalties(self, averaged):
        """The penalties of the objectives, at the weights or at their averages."""
        problem, values = self.fit.problem, np.empty(self.k)

        def penalise(block):
            state = block.states[0].of_average() if averaged else block.states[0]
            squares, sizes = state.norms()
            own = 0.5 * problem.l2 * squares
            values[block.outputs] = own + problem.l1 * sizes if problem.l1 else own

        self.fit.team.run(penalise, [(block,) for block in self.blocks])
        return values.sum(keepdims=True) if self.softmax else values

    def losses(self, averaged, sampled):
        """The mean losses of the objectives, over all rows in use or a sample of them."""
        states = [b.states[0].of_average() if averaged else b.states[0] for b in self.blocks]
        return self._losses(states, sample_spans(self.fit.batch) if sampled else self._spans())

    def objectives_at(self, w, intercept):
        """The objectives at weights of shape (outputs, features)."""
        start, problem = Weights(w, intercept), self.fit.problem
        states = [ManyState.starting(start, block.outputs) for block in self.blocks]
        for block, state in zip(self.blocks, states, strict=True):
            state.places = block.states[0].places
        penalties = np.array([problem.penalty_value(own) for own in w])
        penalties = penalties.sum(keepdims=True) if self.softmax else penalties
        return self._losses(states, self._spans()) + penalties

    def _spans(self):
        n, chunk = self.fit.batch.n_rows, self.fit.batch.chunk_blocks(1)
        chunk = max(1, chunk * 8 // padded_outputs(self.k, self.fit.batch.values.dtype))
        return [(lo, min(lo + chunk, n)) for lo in range(0, n, chunk)]

    def _losses(self, states, spans):
        """Summed in an order that no worker changes."""
        fit, recipe = self.fit, self.fit.recipe(self.fit.problem.eta0)
        batch = fit.batch
        order = Order(batch.n_rows, 1, None, batch.subset)

        def look(index, lo, hi):
            block = self.blocks[index]
            own = batch.rows, block.targets, order, states[index], recipe, lo, hi
            return look_many(*own, block.softmax)

        tasks = [(index, lo, hi) for index in range(len(self.blocks)) for lo, hi in spans]
        n_rows = sum(hi - lo for lo, hi in spans)
        if n_rows * batch.row_numbers * self.k < SERIAL_NUMBERS:
            sums = [look(*task) for task in tasks]
        else:
            sums = fit.team.run(look, tasks)
        losses = np.zeros(self.n_objectives)
        for (index, *_), own in zip(tasks, sums, strict=True):
            losses[slice(None) if self.softmax else self.blocks[index].outputs] += own
        return losses / n_rows

    def intercepts(self, objectives):
        """Of each objective an intercept, or of a softmax their sum."""
        values = np.empty(self.k)
        for block in self.blocks:
            values[block.outputs] = block.states[0].of(INTERCEPT)
        return values.sum(keepdims=True) if self.softmax else values[objectives]

    def weights(self, outputs=None):
        """`Weights` of some outputs, None for all, of shape (outputs, features)."""
        outputs = np.arange(self.k) if outputs is None else np.asarray(outputs)
        start, k = self.fit.start, len(outputs)
        result = Weights(np.empty((k, start.w.shape[1]), start.w.dtype), np.empty(k), t=start.t)
        if start.average is not None:
            result.average, result.average_intercept = np.empty_like(result.w), np.empty(k)
        for block in self.blocks:
            to, state = np.isin(outputs, block.outputs), block.states[0]
            at = outputs[to] - block.outputs[0]
            result.w[to] = state.weights(at)
            result.intercept[to] = state.of(INTERCEPT)[at]
            if start.average is not None:
                result.average[to] = state.averages(at)
                result.average_intercept[to] = state.average_intercepts(at)
        return result
