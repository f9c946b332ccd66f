"""Checkpoints of a run: saved after each round, resumed to the same bits."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.files import write_atomically


class Store:
    """Saves and restores a run's state with orbax; what is half written never counts.

    A run is a NamedTuple of arrays and trees of arrays; what is None is not stored.

    Args:
      folder: made if it is not there.
      settings: text that identifies the run.

    Raises:
      ValueError: the folder holds a run of other settings, or orbax is not installed.
    """

    def __init__(self, folder: Path, settings: str):
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise ValueError(
                "checkpoints need orbax-checkpoint: pip install 'kernlens[train]'"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        self._ocp = ocp
        self._note = folder / "settings.json"
        if self._note.exists():
            found = self._note.read_text()
            if found != settings:
                raise ValueError(
                    f"{folder} holds the checkpoint of another run: found settings {found}, "
                    f"expected {settings}; give another folder, or delete this one"
                )
        else:
            write_atomically(self._note, settings)
        self._manager = ocp.CheckpointManager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False),
        )

    def restore(self, run: Any) -> tuple[int, Any]:
        """The rounds done and the saved run; 0 and ``run`` itself where nothing is saved."""
        latest = self._manager.latest_step()
        if latest is None:
            return 0, run
        found = self._manager.restore(latest, args=self._ocp.args.StandardRestore(_tree(run)))
        device = {k: jax.tree.map(jnp.asarray, v) for k, v in found.items() if k in _DEVICE}
        host = {k: np.array(v) for k, v in found.items() if k not in _DEVICE}
        return latest, run._replace(**device, **host)

    def save(self, done: int, run: Any) -> None:
        """Saves the run after ``done`` rounds, in place of an earlier one."""
        self._manager.save(done, args=self._ocp.args.StandardSave(_tree(run)))


_DEVICE = ("state", "mean", "best")


def _tree(run: Any) -> dict[str, Any]:
    """What there is of a run, on the host; orbax stores no empty array."""
    return jax.tree.map(np.asarray, {k: v for k, v in run._asdict().items() if v is not None})
