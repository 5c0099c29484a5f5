"""`coef_` as an array or as a sparse matrix."""

import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted


class SparseCoefficients:
    """`densify` and `sparsify`, as scikit-learn's linear models have them."""

    def densify(self):
        """Convert `coef_` back to a dense array (the format needed for fitting).

        Returns
        -------
        self : object
            Fitted estimator.
        """
        check_is_fitted(self, msg="Estimator, %(name)s, must be fitted before densifying.")
        if sp.issparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self

    def sparsify(self):
        """Convert `coef_` to a CSR matrix, which is smaller where most entries are 0.

        Returns
        -------
        self : object
            Fitted estimator.
        """
        check_is_fitted(self, msg="Estimator, %(name)s, must be fitted before sparsifying.")
        self.coef_ = sp.csr_matrix(self.coef_)
        return self
