"""Pictures of a fit: how the objective, or another figure of ``history_``, came down."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

X_LABELS = {"epoch": "Epoch", "samples": "Rows seen", "time": "Seconds"}
Y_LABELS = {
    "objective": "Objective",
    "validation_score": "Validation score",
    "step_size": "Step size",
    "rows_per_second": "Rows a second",
}


def _pyplot(caller):
    """Import matplotlib at the last moment: it is an optional dependency."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib; install it with: pip install "skpar[plot]"'
        ) from error
    return plt


def _check_choice(parameter, value, choices):
    if value not in choices:
        raise ValueError(
            f"{parameter} must be one of {', '.join(map(repr, choices))}; got {value!r}"
        )


def _default_names(estimators):
    """Class names; where a class comes twice, with the parameters in which its members differ."""
    names = []
    for estimator in estimators:
        kin = [other for other in estimators if type(other) is type(estimator)]
        variants = {
            key: {repr(other.get_params(deep=False)[key]) for other in kin}
            for key in estimator.get_params(deep=False)
        }
        own = ", ".join(
            f"{key}={getattr(estimator, key)!r}" for key, seen in variants.items() if len(seen) > 1
        )
        names.append(type(estimator).__name__ + (f"({own})" if own else ""))
    # Twins in every parameter are told apart by their position among themselves.
    return [
        f"{name} {names[: i + 1].count(name)}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _history(estimator, name):
    history = getattr(estimator, "history_", None)
    if history is None:
        raise ValueError(
            f"{name} has no history_ to draw. The estimators of skpar record one; from a "
            "pipeline or a search, pass the fitted estimator inside it (pipeline[-1], "
            "search.best_estimator_)"
        )
    return history


class ConvergenceDisplay:
    """Convergence of one or several fits.

    One line for each fit: the objective after each epoch, or another column of `history_`,
    over epochs, rows seen or seconds. It is best made by
    :meth:`ConvergenceDisplay.from_estimators`.

    Parameters
    ----------
    histories : list of dict
        The `history_` of each fit: arrays of equal length, one entry an epoch, under the keys
        'epoch', 'samples', 'time', 'objective', 'validation_score', 'step_size' and
        'rows_per_second'. The two that are drawn suffice.

    x : {'time', 'epoch', 'samples'}, default='time'
        What runs along the horizontal axis.

    y : {'objective', 'validation_score', 'step_size', 'rows_per_second'}, default='objective'
        What is drawn over it.

    names : list of str, default=None
        One name for each history, for the legend. No legend if `None`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the lines.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    lines_ : list of matplotlib Line2D
        One line for each history.

    See Also
    --------
    ConvergenceDisplay.from_estimators : Draw the convergence of fitted estimators.

    Examples
    --------
    >>> import numpy as np
    >>> from skpar import ConvergenceDisplay
    >>> history = {"epoch": np.array([1, 2, 3]), "objective": np.array([0.5, 0.4, 0.39])}
    >>> display = ConvergenceDisplay([history], x="epoch", names=["by hand"]).plot()
    >>> display.ax_.get_xlabel()
    'Epoch'
    """

    def __init__(self, histories, *, x="time", y="objective", names=None):
        self.histories = histories
        self.x = x
        self.y = y
        self.names = names

    def plot(self, ax=None, *, x=None, y=None, relative_to=None, **kwargs):
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. If `None`, a new figure is made.

        x : {'time', 'epoch', 'samples'}, default=None
            In place of the `x` that the display was made with.

        y : {'objective', 'validation_score', 'step_size', 'rows_per_second'}, default=None
            In place of the `y` that the display was made with.

        relative_to : float or 'best', default=None
            For `y='objective'`: draw the distance to this value on a logarithmic axis. 'best'
            is the lowest objective in all histories. Points at or below the value have no
            place on a logarithmic axis and are left out.

        **kwargs : dict
            Passed to matplotlib's `plot` for every line.

        Returns
        -------
        display : ConvergenceDisplay
            The display itself, with `ax_`, `figure_` and `lines_`.
        """
        plt = _pyplot("ConvergenceDisplay.plot")
        x = self.x if x is None else x
        y = self.y if y is None else y
        curves = self._curves(x, y, relative_to)

        if ax is None:
            _, ax = plt.subplots()
        self.ax_, self.figure_, self.lines_ = ax, ax.figure, []
        names = [None] * len(curves) if self.names is None else self.names
        for (across, up), name in zip(curves, names, strict=True):
            # A fit of one epoch is one point, which a line without a marker would not show.
            self.lines_ += ax.plot(across, up, **{"label": name, "marker": ".", **kwargs})

        if relative_to is not None:
            ax.set_yscale("log")
        above = {None: "", "best": " above the best"}.get(relative_to, f" above {relative_to}")
        ax.set(xlabel=X_LABELS[x], ylabel=Y_LABELS[y] + above)
        if self.names is not None:
            ax.legend()
        return self

    def _curves(self, x, y, relative_to):
        """The points of each line; everything that can be wrong is found here, before drawing."""
        _check_choice("x", x, X_LABELS)
        _check_choice("y", y, Y_LABELS)
        if relative_to is not None and y != "objective":
            raise ValueError(f"relative_to goes with y='objective' only; got y={y!r}")
        if isinstance(relative_to, str):
            _check_choice("relative_to", relative_to, ["best"])
        if len(self.histories) == 0:
            raise ValueError("there is no history to draw")
        if self.names is not None and len(self.names) != len(self.histories):
            raise ValueError(
                f"names has {len(self.names)} entries for {len(self.histories)} histories"
            )

        curves = [self._columns(i, x, y) for i in range(len(self.histories))]
        if relative_to is None:
            return curves
        floor = min(np.nanmin(up) for _, up in curves) if relative_to == "best" else relative_to
        return [(across, np.where(up > floor, up - floor, np.nan)) for across, up in curves]

    def _columns(self, i, x, y):
        name = f"history {i}" if self.names is None else self.names[i]
        for key in (x, y):
            if key not in self.histories[i]:
                raise ValueError(f"{name} has no {key!r}; it has {', '.join(self.histories[i])}")
        across = np.asarray(self.histories[i][x], dtype=float)
        up = np.asarray(self.histories[i][y], dtype=float)
        if np.isnan(up).all():
            hint = "; fit with early_stopping=True" if y == "validation_score" else ""
            raise ValueError(f"{name} recorded no {y}{hint}")
        return across, up

    @classmethod
    def from_estimators(
        cls, estimators, *, names=None, x="time", y="objective", relative_to=None, ax=None, **kwargs
    ):
        """Draw the convergence of fitted estimators.

        Parameters
        ----------
        estimators : estimator, list of estimators, or dict of str to estimator
            Fitted estimators with a `history_`. The keys of a dict are the names.

        names : list of str, default=None
            Names for the legend; for one estimator a string will do. If `None`, the classes, with the parameters in which several
            estimators of a class differ.

        x : {'time', 'epoch', 'samples'}, default='time'
            What runs along the horizontal axis: seconds since the start of the fit, epochs, or
            rows seen.

        y : {'objective', 'validation_score', 'step_size', 'rows_per_second'}, default='objective'
            What is drawn over it. 'validation_score' needs fits with `early_stopping=True`. With
            several classes the objective is the mean over the one-vs-rest problems.

        relative_to : float or 'best', default=None
            For `y='objective'`: draw the distance to this value on a logarithmic axis. 'best'
            is the lowest objective that any of the estimators came to.

        ax : matplotlib Axes, default=None
            Axes to draw on. If `None`, a new figure is made.

        **kwargs : dict
            Passed to matplotlib's `plot` for every line.

        Returns
        -------
        display : ConvergenceDisplay
            The display, with `ax_`, `figure_` and `lines_`.

        Examples
        --------
        >>> from sklearn.datasets import make_classification
        >>> from skpar import ConvergenceDisplay, HogwildClassifier
        >>> X, y = make_classification(random_state=0)
        >>> fits = [
        ...     HogwildClassifier(alpha=alpha, random_state=0).fit(X, y) for alpha in (0.01, 0.001)
        ... ]
        >>> display = ConvergenceDisplay.from_estimators(fits, x="epoch")
        >>> [line.get_label() for line in display.lines_]
        ['HogwildClassifier(alpha=0.01)', 'HogwildClassifier(alpha=0.001)']
        """
        _pyplot("ConvergenceDisplay.from_estimators")
        if isinstance(estimators, dict):
            if names is not None:
                raise ValueError("give names, or a dict of estimators with names, and not both")
            names, estimators = list(estimators), list(estimators.values())
        elif not isinstance(estimators, (list, tuple)):
            estimators = [estimators]
            names = [names] if isinstance(names, str) else names
        for estimator in estimators:
            check_is_fitted(estimator)
        names = _default_names(estimators) if names is None else list(names)
        if len(names) != len(estimators):
            raise ValueError(f"names has {len(names)} entries for {len(estimators)} estimators")
        histories = [_history(*pair) for pair in zip(estimators, names, strict=True)]
        display = cls(histories, x=x, y=y, names=names)
        return display.plot(ax=ax, relative_to=relative_to, **kwargs)
