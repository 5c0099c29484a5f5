"""The fitted state of an estimator as plain arrays and json, and back, without executing code."""

import dataclasses
import hashlib
import json
import sys

import numpy as np
import scipy.sparse as sp

# Compiled loss objects that scikit-learn's SGD makes anew in each call of partial_fit.
MADE_ANEW = {"_loss_function_", "loss_function_", "_skl_callbacks", "_callback_fit_ctx"}
SPARSE_KINDS = ("csr_matrix", "csc_matrix", "csr_array", "csc_array")
# {"~": kind, ...} stands for whatever json has no word for.
MARK = "~"


def parameter_names(estimator):
    """Names of what the user set in `__init__`."""
    return set(estimator.get_params(deep=False)) if hasattr(estimator, "get_params") else set()


class Arrays(dict):
    """Arrays by name; those that share their memory once.

    scikit-learn's averaged SGD, for one, writes through one attribute and reads another.
    """

    def __init__(self):
        super().__init__()
        self.seen = {}  # where the memory of an array lies -> its name
        self.alive = []  # so that no later array can lie in the same place

    def add(self, array, name):
        """The name under which a copy of the array, whatever its shape, is kept."""
        if array.size and array.flags.c_contiguous:
            key = array.__array_interface__["data"][0], array.nbytes, array.dtype.str
            name = self.seen.setdefault(key, name)
            self.alive.append(array)
        if name not in self:
            self[name] = np.array(array)
        return name


def get_state(estimator):
    """What `partial_fit` goes on from: every fitted attribute.

    Parameters
    ----------
    estimator : object
        Fitted or not.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays (copies), none of them of objects.
    meta : dict
        The rest, which `json` can write; arrays are in it by name.

    Raises
    ------
    TypeError
        If an attribute is neither numbers, text, arrays, sparse matrices, random states,
        dataclasses of skpar nor lists, tuples, dicts and sets of these.
    """
    arrays, meta = Arrays(), {}
    parameters = parameter_names(estimator)
    for name, value in vars(estimator).items():
        if name not in parameters and name not in MADE_ANEW:
            meta[name] = _packed(value, name, arrays)
    return dict(arrays), meta


def set_state(estimator, arrays, meta):
    """Give an estimator the fitted attributes that `get_state` took, and no others.

    Parameters
    ----------
    estimator : object
        Of the same class and parameters.
    arrays, meta : dict
        From `get_state`, perhaps by way of a file.
    """
    parameters = parameter_names(estimator)
    arrays = {name: np.array(array) for name, array in arrays.items()}
    values = {name: _unpacked(value, arrays) for name, value in meta.items()}
    for name in [name for name in vars(estimator) if name not in parameters]:
        if name not in MADE_ANEW:
            delattr(estimator, name)
    for name, value in values.items():
        setattr(estimator, name, value)


def described(value):
    """A text that changes with a value; None where its type is not known here."""
    try:
        text = json.dumps(_described(value), sort_keys=True)
    except TypeError:
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _described(value):
    """`value` for json, for comparing only: estimators inside estimators are allowed here."""
    if isinstance(value, type):
        return [value.__module__, value.__qualname__]
    if isinstance(value, slice):
        return ["slice", str(value)]
    if type(value) in (list, tuple):
        return [_described(item) for item in value]
    if isinstance(value, dict):
        return [[_described(k), _described(v)] for k, v in value.items()]
    if hasattr(value, "get_params"):
        state = {k: v for k, v in vars(value).items() if k not in MADE_ANEW}
        return [_described(type(value)), _described(state)]
    arrays = Arrays()
    packed = _packed(value, "value", arrays)
    hashes = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays.values()]
    return [packed, hashes, [f"{array.dtype}{array.shape}" for array in arrays.values()]]


def _packed(value, where, arrays):
    """`value` for json; arrays go into `arrays` under the name of where they were found."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    packer = _packer(value)
    if packer is None:
        raise TypeError(
            f"attribute {where} is of type {type(value).__module__}.{type(value).__qualname__}, "
            "which cannot be stored without code that could be executed on loading. Checkpoints "
            "take estimators whose fitted attributes are arrays, numbers, text, and lists and "
            "dicts of these."
        )
    return packer(value, where, arrays)


def _packer(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return _pack_array
    if sp.issparse(value) and type(value).__name__ in SPARSE_KINDS:
        return _pack_sparse
    if type(value) in (list, tuple, set, frozenset):
        return _pack_sequence
    if isinstance(value, dict) and type(value).__module__ in ("builtins", "collections"):
        return _pack_dict
    if isinstance(value, (np.random.RandomState, np.random.Generator)):
        return _pack_random
    if dataclasses.is_dataclass(value) and type(value).__module__.startswith("skpar."):
        return _pack_dataclass
    return None


def _pack_array(value, where, arrays):
    if value.dtype.hasobject:
        items = np.asarray(value).ravel().tolist()
        if not all(item is None or isinstance(item, (str, bool, int, float)) for item in items):
            return _packed(items[0] if len(items) == 1 else object(), where, arrays)
        return {MARK: "objects", "items": items, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        arrays[where] = np.array(value)
        return {MARK: "scalar", "name": where}
    return {MARK: "array", "name": arrays.add(value, where), "shape": list(value.shape)}


def _pack_sparse(value, where, arrays):
    parts = {k: _pack_array(getattr(value, k), f"{where}.{k}", arrays) for k in SPARSE_PARTS}
    return {MARK: "sparse", "kind": type(value).__name__, "shape": list(value.shape), **parts}


SPARSE_PARTS = ("data", "indices", "indptr")


def _pack_sequence(value, where, arrays):
    items = sorted(value) if isinstance(value, (set, frozenset)) else value
    packed = [_packed(item, f"{where}.{k}", arrays) for k, item in enumerate(items)]
    return {MARK: type(value).__name__, "items": packed}


def _pack_dict(value, where, arrays):
    pairs = [
        [_packed(k, f"{where}.key{n}", arrays), _packed(v, f"{where}.{n}", arrays)]
        for n, (k, v) in enumerate(value.items())
    ]
    return {MARK: "dict", "items": pairs}


def _pack_random(value, where, arrays):
    generator = isinstance(value, np.random.Generator)
    bits = value.bit_generator if generator else value._bit_generator
    state = bits.state
    if not generator:
        state = value.get_state(legacy=False)
    kind = "Generator" if generator else "RandomState"
    packed = _packed(state, where, arrays)
    return {MARK: kind, "bits": type(bits).__name__, "state": packed}


def _pack_dataclass(value, where, arrays):
    fields = {
        field.name: _packed(getattr(value, field.name), f"{where}.{field.name}", arrays)
        for field in dataclasses.fields(value)
    }
    kind = type(value)
    return {MARK: "dataclass", "kind": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}


def _unpacked(value, arrays):
    if not isinstance(value, dict):
        return value
    kind = value[MARK]
    if kind == "scalar":
        return arrays[value["name"]][()]
    if kind == "array":
        array = arrays[value["name"]]
        return array if list(array.shape) == value["shape"] else array.reshape(value["shape"])
    return _UNPACK[kind](value, arrays)


def _unpack_objects(value, arrays):
    flat = np.empty(len(value["items"]), dtype=object)
    flat[:] = value["items"]
    return flat.reshape(value["shape"])


def _unpack_sparse(value, arrays):
    if value["kind"] not in SPARSE_KINDS:
        raise ValueError(f"unknown kind of sparse matrix {value['kind']!r}")
    parts = tuple(_unpacked(value[k], arrays) for k in SPARSE_PARTS)
    return getattr(sp, value["kind"])(parts, shape=tuple(value["shape"]))


def _unpack_sequence(value, arrays):
    kind = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[value[MARK]]
    return kind(_unpacked(item, arrays) for item in value["items"])


def _unpack_dict(value, arrays):
    return {_unpacked(k, arrays): _unpacked(v, arrays) for k, v in value["items"]}


def _unpack_random(value, arrays):
    bits = {"MT19937": np.random.MT19937, "PCG64": np.random.PCG64}.get(value["bits"])
    if bits is None:
        raise ValueError(f"unknown bit generator {value['bits']!r}")
    state = _unpacked(value["state"], arrays)
    if value[MARK] == "RandomState":
        result = np.random.RandomState(bits())
        result.set_state(state)
        return result
    result = np.random.Generator(bits())
    result.bit_generator.state = state
    return result


def _unpack_dataclass(value, arrays):
    module, _, name = value["kind"].partition(":")
    # Only classes of this package that are loaded already: a file cannot choose what to import.
    kind = getattr(sys.modules.get(module), name, None) if module.startswith("skpar.") else None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"unknown kind of record {value['kind']!r}")
    fields = {k: _unpacked(v, arrays) for k, v in value["fields"].items()}
    result = object.__new__(kind)
    for name, item in fields.items():
        object.__setattr__(result, name, item)
    return result


_UNPACK = {
    "objects": _unpack_objects,
    "sparse": _unpack_sparse,
    "list": _unpack_sequence,
    "tuple": _unpack_sequence,
    "set": _unpack_sequence,
    "frozenset": _unpack_sequence,
    "dict": _unpack_dict,
    "RandomState": _unpack_random,
    "Generator": _unpack_random,
    "dataclass": _unpack_dataclass,
}
