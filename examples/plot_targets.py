"""
Several targets, counts and quantiles
=====================================

The regressors fit more than a mean: several targets at once, counts by their deviance, and
quantiles. All of it with ``learning_rate="auto"``: there is no step size to tune.
"""

import matplotlib.pyplot as plt
import numpy as np

from skpar import HogwildRegressor

rng = np.random.default_rng(0)
n = 20_000
hour = rng.uniform(0, 24, n)
phases = 2 * np.pi * hour[:, None] * np.arange(1, 4) / 24
X = np.hstack([np.sin(phases), np.cos(phases)])

# %%
# Two stations count visitors over the day: a matrix of two targets. ``loss="poisson"`` predicts
# means that are never negative, and ``score`` is the share of the deviance explained, averaged.
means = np.exp(1.5 + np.stack([np.sin(phases[:, 0] - 2), 0.8 * np.cos(phases[:, 1])], axis=1))
visitors = rng.poisson(means)
counts = HogwildRegressor(loss="poisson", n_jobs=2).fit(X, visitors)
print(counts.coef_.shape, round(counts.score(X, visitors), 3))

# %%
# The waiting time at the first station spreads more when many come. A model for each level of
# ``loss="quantile"`` draws the band in which nine of ten waits lie.
wait = 2 + 0.6 * means[:, 0] * rng.gamma(2.0, 0.5, n)
levels = (0.05, 0.5, 0.95)
bands = {q: HogwildRegressor(loss="quantile", quantile=q, alpha=1e-5).fit(X, wait) for q in levels}
inside = (bands[0.05].predict(X) <= wait) & (wait <= bands[0.95].predict(X))
print(f"{inside.mean():.1%} of the waits lie in the band")

# %%
order = np.argsort(hour)[:: n // 400]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for k in range(2):
    left.plot(hour[order], visitors[order, k], ".", ms=2, color=f"C{k}", alpha=0.5)
    left.plot(hour[order], counts.predict(X[order])[:, k], color=f"C{k}", label=f"station {k + 1}")
left.set(xlabel="hour", ylabel="visitors", title="Two targets, Poisson")
left.legend()
right.plot(hour[order], wait[order], ".", ms=2, color="0.6")
for q, model in bands.items():
    right.plot(hour[order], model.predict(X[order]), label=f"level {q}")
right.set(xlabel="hour", ylabel="minutes", title="Quantiles of a wait")
right.legend()
plt.show()
