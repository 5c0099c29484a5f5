"""The bridge to `sklearn.callback`: epochs as tasks, and a stand-in where scikit-learn has none.

Hooks run between epochs, when no worker does. A hook finds the state of the fit in
`fitted_estimator`: an estimator that predicts as the fit would if it stopped now, with the
`history_` so far.
"""

import copy
import functools
import inspect

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9
    HOOKS = ("setup", "on_fit_task_begin", "on_fit_task_end", "teardown")

    class Context:
        """As much of `sklearn.callback.CallbackContext` as hooks of one estimator need."""

        def __init__(self, estimator, callbacks, task_name, task_id, max_subtasks, parent):
            self.estimator_name, self.callbacks = type(estimator).__name__, callbacks
            self.task_name, self.task_id = task_name, task_id
            self.max_subtasks, self.parent, self.children = max_subtasks, parent, 0
            self._estimator = estimator

        def subcontext(self, task_name="", max_subtasks=0):
            self.children += 1
            own = task_name, self.children - 1, max_subtasks, self
            return Context(self._estimator, self.callbacks, *own)

        def _call(self, hook, estimator, values):
            stop = False
            for callback in self.callbacks:
                method = getattr(callback, hook)
                wanted = inspect.signature(method).parameters.values()
                wanted = {p.name for p in wanted if p.kind == p.KEYWORD_ONLY}
                given = {name: values.get(name) for name in wanted}
                given = {k: v() if callable(v) else v for k, v in given.items()}
                if "fitted_estimator" in wanted:
                    given["fitted_estimator"] = _fitted(estimator, values)
                stop |= bool(method(estimator, self, **given))
            return stop

        def call_on_fit_task_begin(self, *, estimator, **values):
            self._call("on_fit_task_begin", estimator, values)
            return self

        def call_on_fit_task_end(self, *, estimator, **values):
            return self._call("on_fit_task_end", estimator, values)

    def _fitted(estimator, values):
        attributes = values.get("reconstruction_attributes")
        if attributes is None:
            return None
        fitted = copy.copy(estimator)
        fitted.__dict__.update(attributes())
        return fitted

    class CallbackSupportMixin:
        """`set_callbacks`, for a scikit-learn that does not have it."""

        def set_callbacks(self, *callbacks):
            """Set callbacks for the estimator.

            Parameters
            ----------
            *callbacks : callback instances
                Objects with the hooks `setup`, `on_fit_task_begin`, `on_fit_task_end` and
                `teardown`.

            Returns
            -------
            self : object
                The estimator itself.
            """
            for callback in callbacks:
                if isinstance(callback, type) or not all(hasattr(callback, h) for h in HOOKS):
                    raise TypeError(
                        "callbacks must be instances following the FitCallback protocol."
                    )
            self._skl_callbacks = list(callbacks)
            if not callbacks:
                del self._skl_callbacks
            return self

        def _init_callback_context(self, max_subtasks=0):
            callbacks = getattr(self, "_skl_callbacks", [])
            context = Context(self, callbacks, "fit", 0, max_subtasks, None)
            self._callback_context = context
            for callback in callbacks:
                callback.setup(self, context)
            return context

    def with_callbacks(method):
        """Call the hooks' `teardown` however the method ends."""

        @functools.wraps(method)
        def managed(self, *args, **kwargs):
            try:
                return method(self, *args, **kwargs)
            finally:
                context = self.__dict__.pop("_callback_context", None)
                for callback in [] if context is None else context.callbacks:
                    callback.teardown(self, context)

        return managed


__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]


class FitTasks:
    """The tasks of one `fit`: one for each epoch, within one for each class if there are many.

    `kind` is what a task of the latter is called.
    """

    def __init__(self, estimator, X, y, sample_weight, n_models, kind="class"):
        self.estimator, self.n_models, self.kind = estimator, n_models, kind
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.values = dict(estimator=estimator, X=X, y=y, metadata=metadata)
        self.root = self.model = None
        if hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx"):
            subtasks = estimator.max_iter if n_models == 1 else n_models
            self.root = estimator._init_callback_context(max_subtasks=subtasks)
            self.root.call_on_fit_task_begin(**self.values)

    def listener(self, k, attributes):
        """What the epoch loop calls after each epoch of model k; None where nobody listens.

        `attributes(k, w, intercept, history)` gives the fitted attributes of that moment.
        """
        if self.root is None:
            return None
        self.model = self.root
        if self.n_models > 1:
            most = self.estimator.max_iter
            self.model = self.root.subcontext(task_name=f"{self.kind} {k}", max_subtasks=most)
            self.model.call_on_fit_task_begin(**self.values)
        model = self.model

        def heard(w, intercept, history):
            task = model.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(**self.values)
            state = functools.partial(attributes, k, w, intercept, history)
            return task.call_on_fit_task_end(**self.values, reconstruction_attributes=state)

        return heard

    def end_model(self):
        if self.model is not None and self.model is not self.root:
            self.model.call_on_fit_task_end(**self.values)

    def end(self, attributes):
        """The whole fit is over; `attributes()` are the estimator's own."""
        if self.root is not None:
            self.root.call_on_fit_task_end(**self.values, reconstruction_attributes=attributes)
