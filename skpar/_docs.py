"""The parameter texts that the four estimators share, kept once (numpydoc format)."""

from textwrap import dedent, indent

LOSSES_CLASSIFIER = """
loss : str, default='hinge'
    The loss. 'hinge' gives a linear SVM, 'log_loss' logistic regression; 'modified_huber'
    tolerates outliers and gives probabilities too; 'squared_hinge' is the hinge squared;
    'perceptron' is the perceptron's. The regression losses 'squared_error', 'huber',
    'epsilon_insensitive' and 'squared_epsilon_insensitive' may be used with labels -1, 1.
"""
LOSSES_REGRESSOR = """
loss : str, default='squared_error'
    The loss: 'squared_error', 'huber' (linear beyond `epsilon`), 'epsilon_insensitive'
    (support vector regression: errors below `epsilon` are free) or
    'squared_epsilon_insensitive'; 'poisson' (targets >= 0), 'gamma' (targets > 0) or 'tweedie'
    (see `power`), half the deviance of a mean exp(x.w + b); or 'quantile' (see `quantile`).
"""
PENALTY_AND_STOPPING = """
penalty : {'l2', 'l1', 'elasticnet'} or None, default='l2'
    The penalty on the coefficients.
alpha : float, default=0.0001
    Strength of the penalty, in [0, inf); learning_rate='optimal' uses it too.
l1_ratio : float or None, default=0.15
    Share of l1 in 'elasticnet', in [0, 1]; None is allowed for other penalties.
fit_intercept : bool, default=True
    Whether to learn an intercept.
max_iter : int, default=1000
    Most epochs (passes over the rows, or steps by full gradients) that `fit` runs.
tol : float or None, default=1e-3
    With learning_rate='auto', how far above its minimum the objective may end, relative to its
    value: 1e-3 is 0.1 %. With the other schedules `fit` stops when `n_iter_no_change` epochs in
    a row gain less than this, in the mean loss met during the epoch plus the penalty or, with
    `early_stopping`, in the validation score. None: when no step gains anything, and never.
shuffle : bool, default=True
    Whether each epoch visits the rows in a new random order (blocks of 8 consecutive rows,
    or single rows where neighbouring targets are visibly alike).
verbose : int, default=0
    With 1 or more, one line an epoch.
epsilon : float, default=0.1
    The threshold of 'huber', 'epsilon_insensitive' and 'squared_epsilon_insensitive', in
    units of the target.
"""
N_JOBS = """
n_jobs : int or None, default=None
    Workers for one fit, binary and regression included, by joblib's rules: None is 1 outside
    a `joblib.parallel_config`, -1 all cores. Small data run on fewer: see `n_workers_`.
"""
STEPS_CLASSIFIER = """
random_state : int, RandomState instance or None, default=None
    Seeds the order of rows and the validation split.
learning_rate : str, default='auto'
    'auto' needs no tuning and no scaled columns: it ends at the optimum that `tol` asks for,
    by full gradients, on wide sparse rows after stochastic steps of a size that it finds. The
    others give the step size eta of sample number t: 'optimal', 1 / (alpha (t + t0)) with Bottou's t0;
    'constant', eta0; 'invscaling', eta0 / t**power_t; 'adaptive', eta0, divided by 5 each
    time that the stopping rule would end the fit, down to 1e-6; 'pa1' and 'pa2', the
    passive-aggressive steps, for loss='hinge'.
eta0 : float, default=0.01
    The first step size of 'constant', 'invscaling' and 'adaptive', in (0, inf); the
    aggressiveness of 'pa1' and 'pa2'.
power_t : float, default=0.5
    The exponent of 'invscaling'.
"""
STEPS_REGRESSOR = STEPS_CLASSIFIER.replace("loss='hinge'", "loss='epsilon_insensitive'").replace(
    "power_t : float, default=0.5", "power_t : float, default=0.25"
)
EARLY_STOPPING = """
early_stopping : bool, default=False
    Whether to hold out `validation_fraction` of the rows (or to use the validation set given
    to `fit`), stop on their score, and return the best weights seen.
validation_fraction : float, default=0.1
    Share of the rows held out, in (0, 1).
n_iter_no_change : int, default=5
    Epochs without gain before `fit` stops.
"""
CLASS_WEIGHT = """
class_weight : dict {label: weight}, 'balanced' or None, default=None
    Weights of the classes; 'balanced' is n_samples / (n_classes * count).
"""
WARM_AND_AVERAGE = """
warm_start : bool, default=False
    Whether `fit` starts from the last fit's coefficients.
average : bool or int, default=False
    Whether `coef_` is the average over all updates; an int is the sample number from which
    to average. 'auto' averages as it needs, whatever this says.
"""
PARALLEL = """
scheme : {'model-averaging', 'gradient-averaging'}, default='model-averaging'
    How shards of the rows make one model. 'model-averaging': each trains its own for a round,
    then they are averaged, once to sixteen times an epoch. 'gradient-averaging': all compute
    the gradient of a batch at the same weights and one step is taken; apart from rounding the
    number of shards makes no difference. learning_rate='auto' on rows in memory uses it for the
    stochastic epochs with which wide sparse rows start.
n_shards : int or None, default=None
    Number of shards; None is the number of workers, fewer where shards would be too small to
    be worth a worker. Fix it for the same result everywhere.
batch_size : int or 'auto', default='auto'
    For 'gradient-averaging': rows of a step, all shards together. The step is that of as many
    samples, at most what the curvature allows. 'auto' makes 32 to 256 steps an epoch.
inner_n_jobs : int or None, default=None
    For 'model-averaging': threads of a worker that train its shard together, without locks;
    `n_jobs` counts all threads, so there are `n_jobs` // `inner_n_jobs` workers. Results are
    then equal within the noise of SGD and no longer to the bit. None is off.
"""
HOGWILD = """
scheme : {'lock-free', 'locked'}, default='lock-free'
    Whether workers write the shared weights without locks, or, to compare with, hold one.
merge_every : int or 'auto', default='auto'
    Rows between a worker's merges into the shared weights. 'auto' follows from the step size,
    the curvature of the data and the number of workers. 1 is classic Hogwild on sparse rows:
    each row is written straight into the shared weights.
"""
MULTI_CLASS = """
multi_class : {'ovr', 'multinomial'}, default='ovr'
    Of more than two classes: each against the rest, or, with loss='log_loss', the softmax of
    all. With learning_rate='auto' the softmax reads the rows once for all classes, and so does
    one-vs-rest of smooth losses on dense rows; with the other schedules both do.
split : {'auto', 'rows', 'classes'}, default='auto'
    What stochastic steps of more than two classes, one-vs-rest, split among the workers: 'rows',
    as for one class, or 'classes', each worker training a block of them on all rows, which
    changes no bit of the result. 'auto' splits the classes, into no more blocks than a row of
    their weights has cache lines (8 classes of float64, 16 of float32), and the rows among the
    workers left over. `n_shards` above 1, scheme='gradient-averaging', 'locked' and a number for
    `merge_every` split rows.
"""
POWER_AND_QUANTILE = """
power : float, default=1.5
    The power of 'tweedie': the variance grows as mean**power. 0 is the normal distribution,
    with x.w + b itself for the mean; 1 is 'poisson'; between 1 and 2 lie sums of gammas, with
    targets >= 0; 2 is 'gamma', 3 the inverse Gaussian, with targets > 0.
quantile : float, default=0.5
    The level of 'quantile' in (0, 1): the share of targets below the prediction.
"""
ATTRIBUTES_CLASSIFIER = """
coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    Coefficients; one row for two classes. Of the dtype of `X`.
intercept_ : ndarray of shape (1,) or (n_classes,)
    Intercepts.
classes_ : ndarray of shape (n_classes,)
    Labels, sorted.
"""
ATTRIBUTES_REGRESSOR = """
coef_ : ndarray of shape (n_features,)
    Coefficients, of the dtype of `X`.
intercept_ : ndarray of shape (1,)
    Intercept.
"""
ATTRIBUTES = """
n_iter_ : int
    Epochs run (the most of all classes).
t_ : float
    Samples seen, plus 1.
n_features_in_ : int
    Number of features.
feature_names_in_ : ndarray of shape (`n_features_in_`,)
    Names of features, where `X` has string names.
history_ : dict of ndarray of shape (`n_iter_`,)
    One entry an epoch: 'epoch', 'samples' (seen so far), 'time' (seconds since the start),
    'objective' (of the weights that the user would get; on large data, for scikit-learn's
    schedules, all but the last from a sample of the rows), 'validation_score' (NaN without
    validation rows), 'step_size', 'rows_per_second'. Means over classes for several.
eta0_ : float
    The first step size in use; 1 where 'auto' needed full gradients alone.
scheme_ : str
    The scheme in use: 'full-gradient' where 'auto' needed no stochastic steps, 'sequential'
    where one worker was enough, 'dual' where many classes of wide sparse rows were fitted by dual
    coordinate ascent.
n_workers_ : int
    Workers in use.
"""


def document(*, parameters, attributes):
    """Fill {parameters} and {attributes} of a class's docstring."""

    def fill(cls):
        if cls.__doc__ is None:  # python -OO
            return cls
        parts = {"{parameters}": parameters, "{attributes}": attributes}
        text = dedent("    " + cls.__doc__.lstrip("\n"))
        for name, texts in parts.items():
            text = text.replace(name, "\n".join(t.strip("\n") for t in texts))
        cls.__doc__ = indent(text, "    ").lstrip()
        return cls

    return fill
