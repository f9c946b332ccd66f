"""See what a pretrained embedding will do downstream, before you commit to it."""

import importlib
import os
from typing import Any

# LAPACK's threads wait for more work at full speed, by default some 20 ms, and take a core from
# XLA. Less than a millisecond (2**20 cycles) is enough within a factorisation.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

__version__: str

VERBS = ("compare", "diagnose", "fuse", "predict", "stability", "upgrade")
WRITERS = ("export", "report")
TYPES = {
    "Interval": "types",
    "Labels": "types",
    "MultiLabels": "types",
    "NextItems": "targets",
    "Prediction": "probes",
}
ALIASES = {
    "agreement": "metrics.agreement",
    "cooccurrence": "train.cooccurrence",
    "decoders": "models.decoders",
    "encoders": "models.encoders",
    "features": "kernels.features",
    "heads": "train.heads",
    "intervals": "scores.intervals",
    "kernel_learning": "probes.kernel_learning",
    "pretrain": "train.pretrain",
    "ranking": "metrics.ranking",
    "recommend": "train.recommend",
    "recommenders": "probes.recommenders",
    "ridge_ranking": "probes.ridge_ranking",
    "sampling": "train.sampling",
    "sequence_kernels": "kernels.sequence_kernels",
    "sequences": "targets.sequences",
    "text": "models.text",
    "towers": "models.towers",
}
"""Names that users type, and the module in its room that each stands for."""

__all__ = ["__version__", *VERBS, *WRITERS, *TYPES, *ALIASES]


def __getattr__(name: str) -> Any:
    """Imports a verb, a writer, a type or the module behind an alias when it is first asked for."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("kernlens")
    if name in VERBS or name in WRITERS or name in TYPES:
        room = importlib.import_module(f"{__name__}.{TYPES.get(name, 'lens')}")
        return getattr(room, name)
    if name in ALIASES:
        return importlib.import_module(f"{__name__}.{ALIASES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
