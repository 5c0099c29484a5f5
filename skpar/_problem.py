"""What is minimised: the loss, the penalty and the schedule, in one frozen record."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skpar._kernels import losses
from skpar._kernels.records import Recipe
from skpar._kernels.smoothed import Smoothed, SmoothedQuantile

# scikit-learn's rate for the intercept on sparse rows, where it would otherwise oscillate.
SPARSE_INTERCEPT_RATE = 0.01

# loss -> (kernel class, its parameter, the largest second derivative; 1 where there is none, and
# for deviances the one at a mean of 1)
LOSSES = {
    "hinge": (losses.Hinge, 1.0, 1.0),
    "perceptron": (losses.Hinge, 0.0, 1.0),
    "squared_hinge": (losses.SquaredHinge, None, 2.0),
    "log_loss": (losses.LogLoss, None, 0.25),
    "modified_huber": (losses.ModifiedHuber, None, 2.0),
    "squared_error": (losses.SquaredError, None, 1.0),
    "huber": (losses.Huber, "epsilon", 1.0),
    "epsilon_insensitive": (losses.EpsilonInsensitive, "epsilon", 1.0),
    "squared_epsilon_insensitive": (losses.SquaredEpsilonInsensitive, "epsilon", 2.0),
    "poisson": (losses.Poisson, None, 1.0),
    "gamma": (losses.Gamma, None, 1.0),
    "tweedie": (losses.Tweedie, "power", 1.0),
    "quantile": (losses.Quantile, "quantile", 1.0),
}
DEVIANCES = ("poisson", "gamma", "tweedie")
# Powers of the Tweedie deviance that are losses of their own; 0 has the identity for its link.
SPECIAL_POWERS = {0.0: losses.SquaredError, 1.0: losses.Poisson, 2.0: losses.Gamma}


@dataclass(frozen=True)
class Problem:
    """(1/n) sum_i s_i loss(y_i, x_i.w + b) + l2/2 ||w||^2 + l1 ||w||_1, and how to step."""

    loss: str
    epsilon: float
    penalty: str | None
    alpha: float
    l1_ratio: float
    fit_intercept: bool
    learning_rate: str
    eta0: float
    power_t: float
    average: int = 0
    power: float = 1.5
    quantile: float = 0.5
    typical: float = 1.0  # a target of ordinary size; of deviances only

    @cached_property
    def l1(self):
        """Strength of the absolute norm."""
        share = {"l1": 1.0, "elasticnet": self.l1_ratio}.get(self.penalty, 0.0)
        return self.alpha * share

    @cached_property
    def l2(self):
        """Strength of half the squared norm."""
        share = {"l2": 1.0, "elasticnet": 1.0 - (self.l1_ratio or 0.0)}.get(self.penalty, 0.0)
        return self.alpha * share

    @property
    def curvature(self):
        """An upper bound of the loss's second derivative; of a deviance that at a typical mean."""
        bound = LOSSES[self.loss][2]
        if self.has_log_link and self.typical > 0:
            bound *= self.typical ** (2.0 - self.power_in_use)
        return bound

    def loss_kernel(self):
        """The compiled loss."""
        kind, parameter, _ = LOSSES[self.loss]
        if self.loss == "tweedie" and self.power in SPECIAL_POWERS:
            return SPECIAL_POWERS[self.power]()
        if parameter is None:
            return kind()
        return kind(getattr(self, parameter) if isinstance(parameter, str) else parameter)

    def rounded(self, width):
        """The compiled loss with its kink rounded off over a width."""
        loss = self.loss_kernel()
        if self.loss == "quantile":
            return SmoothedQuantile(self.quantile, width)
        return Smoothed(loss, width)

    @property
    def power_in_use(self):
        """The Tweedie power of a deviance: the variance is proportional to mean^power."""
        return {"poisson": 1.0, "gamma": 2.0, "tweedie": float(self.power)}[self.loss]

    @property
    def convex(self):
        """Whether the loss bends up everywhere."""
        return self.loss != "tweedie" or self.power <= 2

    @property
    def has_log_link(self):
        """Whether x.w + b is the logarithm of the predicted mean."""
        return self.loss in DEVIANCES and self.power_in_use != 0.0

    @cached_property
    def _recipes(self):
        return {}

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_recipes"}

    def recipe(self, sparse, eta0, *, average=0, track_loss=False):
        """The compiled record of one step; `eta0` stands for the problem's own ("adaptive")."""
        # Every epoch asks for it twice; hashing the whole record would cost more than a tiny one.
        key = sparse, eta0, average, track_loss
        if key not in self._recipes:
            self._recipes[key] = self._recipe(*key)
        return self._recipes[key]

    def _recipe(self, sparse, eta0, average, track_loss):
        rate = SPARSE_INTERCEPT_RATE if sparse else 1.0
        return Recipe(
            self.loss_kernel(),
            l1=self.l1,
            l2=self.l2,
            alpha=self.alpha,
            schedule="decaying" if self.learning_rate == "auto" else self.learning_rate,
            decay=self.l2,  # as strong convexity allows: not at all without l2
            eta0=eta0,
            power_t=self.power_t,
            intercept_rate=rate if self.fit_intercept else 0.0,
            average_from=average,
            track_loss=track_loss,
            typical_mean=max(self.typical, 1e-300),
        )

    def penalty_value(self, w):
        """The penalty's part of the objective at weights w."""
        w = np.asarray(w, dtype=np.float64)
        value = 0.5 * self.l2 * float(np.vdot(w, w))
        return value + self.l1 * float(np.abs(w).sum()) if self.l1 else value
