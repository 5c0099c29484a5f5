"""scikit-learn's own checks of an estimator."""

import pytest
from _common import ESTIMATORS
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

# Some checks lower max_iter, so that the fit ends before it converges and says so, as it should.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# The two that scikit-learn lists for its own SGD: a repeated row moves the weights twice, and a
# row of weight two moves them once, twice as far.
EXPECTED_FAILED = {
    f"check_sample_weight_equivalence_on_{kind}_data": "repeating a row is not weighting it"
    for kind in ("dense", "sparse")
}
INSTANCES = [cls(n_jobs=n_jobs) for cls in ESTIMATORS for n_jobs in (None, 2)]


CHECKS = parametrize_with_checks(INSTANCES, expected_failed_checks=lambda est: EXPECTED_FAILED)


# A list: scikit-learn 1.6 hands over a generator, which pytest no longer likes.
@pytest.mark.parametrize(("estimator", "check"), list(CHECKS.args[1]), ids=CHECKS.kwargs["ids"])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", INSTANCES, ids=repr)
@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
def test_more_sklearn_checks(estimator, check):
    if check is check_dataframe_column_names_consistency:
        pytest.importorskip("pandas")
    check(type(estimator).__name__, estimator)
