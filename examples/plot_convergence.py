"""
Convergence over epochs and over seconds
========================================

Every fit of skpar keeps a ``history_``: for each epoch the objective, the rows seen, the
seconds since the start. :class:`~skpar.ConvergenceDisplay` draws it. Over *epochs* the schemes
do nearly the same; over *seconds* workers make the difference.
"""

# %%
# One problem, one and two workers
# --------------------------------
#
# The parameters are the same for all; ``tol=None`` runs every epoch.

import matplotlib.pyplot as plt
from sklearn.datasets import make_classification
from sklearn.preprocessing import StandardScaler

from skpar import ConvergenceDisplay, HogwildClassifier, ParallelSGDClassifier

X, y = make_classification(100_000, 40, n_informative=20, random_state=0)
X = StandardScaler().fit_transform(X)

shared = dict(loss="log_loss", max_iter=10, tol=None, random_state=0)
fits = {
    f"{cls.__name__}, n_jobs={n_jobs}": cls(n_jobs=n_jobs, **shared).fit(X, y)
    for cls in (HogwildClassifier, ParallelSGDClassifier)
    for n_jobs in (1, 2)
}

# %%
# With ``relative_to="best"`` the distance to the lowest objective that any of them came to is
# drawn, on a logarithmic axis.

_, (left, right) = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
ConvergenceDisplay.from_estimators(fits, x="epoch", relative_to="best", ax=left)
ConvergenceDisplay.from_estimators(fits, x="time", relative_to="best", ax=right)
right.get_legend().remove()
plt.tight_layout()
plt.show()

# %%
# The score on rows held out from training
# ----------------------------------------
#
# With ``early_stopping=True`` a tenth of the rows is set aside to score the model after each
# epoch, and the history has these scores.

fit = HogwildClassifier(loss="log_loss", early_stopping=True, n_jobs=2, random_state=0).fit(X, y)
ConvergenceDisplay.from_estimators(fit, x="epoch", y="validation_score")
plt.show()
