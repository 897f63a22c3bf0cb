"""Trees of arrays, and the Flax models that hold them, as checkpoints of Orbax; any program that has Orbax reads them.

Arrays over several devices are written and read shard by shard. Only this process takes part, so of arrays over several
processes those can be saved that are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifacts.manifest import Manifest
from toolkit.errors import ArtifactError, MissingExtra

if TYPE_CHECKING:
    from orbax.checkpoint import Checkpointer

_NO_NUMBERS = "OSU"  # NumPy's kinds: objects and texts


def writer(model: Any) -> Callable[[Path], None]:
    """What writes the tree of arrays that the model is, or holds. Raises `ArtifactError` when it is none."""
    tree = _saved_tree(model)
    ocp = _orbax()

    def write(directory: Path) -> None:
        with _checkpointer() as checkpointer:
            checkpointer.save(directory.resolve(), args=ocp.args.PyTreeSave(tree), force=True)

    return write


def read(directory: Path, manifest: Manifest, like: Any) -> Any:
    """The tree, as NumPy arrays or in the types and shardings of `like`; an NNX module is a new one with its arrays."""
    if not _is_nnx(like):
        return _restored(directory, manifest, like)
    from flax import nnx

    if isinstance(like, nnx.State):
        return _filled(like, directory, manifest)
    graph, state = nnx.split(like)
    return nnx.merge(graph, _filled(state, directory, manifest))


def _filled(state: Any, directory: Path, manifest: Manifest) -> Any:
    from flax import nnx

    restored = _restored(directory, manifest, nnx.to_pure_dict(state))
    filled = nnx.clone(state)
    nnx.replace_by_pure_dict(filled, restored)
    return filled


def _restored(directory: Path, manifest: Manifest, like: Any) -> Any:
    import jax

    ocp = _orbax()
    with _checkpointer() as checkpointer:
        saved = checkpointer.metadata(directory.resolve()).item_metadata.tree
        if like is None:
            wanted = ocp.args.PyTreeRestore(restore_args=jax.tree.map(_as_numpy, saved))
        else:
            _expect_the_same(saved, like, manifest)
            wanted = ocp.args.PyTreeRestore(item=like, restore_args=jax.tree.map(_as_it_is, like))
        return checkpointer.restore(directory.resolve(), args=wanted)


def _orbax() -> Any:
    try:
        import orbax.checkpoint
    except ModuleNotFoundError:
        raise MissingExtra("saving and loading arrays needs orbax-checkpoint", "flax") from None
    return orbax.checkpoint


def _checkpointer() -> Checkpointer:
    """One that works alone: the other processes of the run do not call it, and it would wait for them."""
    import jax

    ocp, this = _orbax(), jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix="toolkit"
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


def _as_numpy(saved: Any) -> Any:
    """How to read a leaf that nothing else is known of than what was saved."""
    ocp = _orbax()
    if isinstance(saved, ocp.metadata.ScalarMetadata):
        return ocp.RestoreArgs()
    return ocp.RestoreArgs(restore_type=np.ndarray)


def _as_it_is(leaf: Any) -> Any:
    """How to read a leaf in the type, and onto the devices, of this one."""
    import jax

    ocp = _orbax()
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return ocp.ArrayRestoreArgs(sharding=sharding)
        return ocp.ArrayRestoreArgs(sharding=sharding, dtype=leaf.dtype)
    if isinstance(leaf, np.ndarray | np.generic):
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    return ocp.RestoreArgs(restore_type=type(leaf))


def _expect_the_same(saved: Any, like: Any, manifest: Manifest) -> None:
    """Raises `ArtifactError` where `like` has other entries than the artifact, or one of another shape."""
    found, wanted = (_orbax().tree.to_flat_dict(tree) for tree in (saved, like))
    for path in sorted(found.keys() ^ wanted.keys()):
        where = "the artifact has, and `like` has not" if path in found else "`like` has, and the artifact has not"
        raise ArtifactError(f"artifact {manifest.name!r} does not fit to `like`: {'/'.join(path)} is what {where}")
    for path, leaf in wanted.items():
        shape, given = getattr(found[path], "shape", ()), np.shape(leaf)
        if shape != given and not _is_key(leaf):
            raise ArtifactError(
                f"artifact {manifest.name!r} does not fit to `like`: {'/'.join(path)} has the shape {shape}, not "
                f"{given}"
            )


def _is_key(leaf: Any) -> bool:
    import jax

    return jax.numpy.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.prng_key)


def _saved_tree(model: Any) -> Any:
    """The tree of arrays of a model, each of them readable by this process alone."""
    import jax

    if _is_nnx(model):
        from flax import nnx

        model = nnx.to_pure_dict(model if isinstance(model, nnx.State) else nnx.state(model))
    leaves, structure = jax.tree_util.tree_flatten_with_path(model)
    readable = [_readable(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
    if not any(isinstance(leaf, jax.Array | np.ndarray) for leaf in readable):
        raise ArtifactError(f"a {type(model).__name__} without any array cannot be saved as a model")
    return jax.tree.unflatten(structure, readable)


def _is_nnx(given: Any) -> bool:
    if not any(base.__module__.startswith("flax.nnx") for base in type(given).__mro__):
        return False
    from flax import nnx

    return isinstance(given, nnx.Pytree | nnx.State)


def _readable(where: str, leaf: Any) -> Any:
    """The leaf if it can be saved, and of an array that is the same in all processes this one's copy."""
    import jax

    if isinstance(leaf, jax.core.Tracer):
        raise ArtifactError(f"{where or 'the array'} is traced: save it outside of jit")
    if isinstance(leaf, jax.Array):
        return _local(where, leaf)
    if isinstance(leaf, bool | int | float):
        return leaf
    if not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype.kind in _NO_NUMBERS:
        raise ArtifactError(_unknown(where, leaf))
    if not leaf.size:
        raise ArtifactError(f"{where or 'the array'} is empty, and a checkpoint cannot hold an array without entries")
    return leaf


def _local(where: str, array: Any) -> Any:
    if array.is_deleted():
        raise ArtifactError(f"{where or 'the array'} was donated to a computation: save what that returned")
    if not array.size:
        raise ArtifactError(f"{where or 'the array'} is empty, and a checkpoint cannot hold an array without entries")
    if array.is_fully_addressable:
        return array
    if not array.is_fully_replicated:
        raise ArtifactError(
            f"{where or 'the array'} is spread over several processes: gather it in all of them before, for example by "
            "jax.experimental.multihost_utils.process_allgather"
        )
    return array.addressable_data(0)


def _unknown(where: str, leaf: Any) -> str:
    kind = f"{type(leaf).__module__}.{type(leaf).__name__}"
    place = f"{where} is a {kind}" if where else f"a {kind}"
    return (
        f"{place}, which cannot be saved as a model: expected an NNX module, a TrainState, variables of Flax, a tree "
        "of arrays, a transformers model or a path. Of a linen module give its variables; of a module of torch, the "
        "path of a file that torch.save wrote"
    )
