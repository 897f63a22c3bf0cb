"""Artifacts: every kind of model there and back, versions, names, damage, and a disk or process that gives up."""

import subprocess
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orjson
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from orbax.checkpoint import StandardCheckpointer

from tests.disk import room_for
from toolkit.artifacts.store import ArtifactStore
from toolkit.errors import ArtifactError

ROOT = Path(__file__).parents[2]
TREE = {
    "pair": (jnp.arange(3), {"half": jnp.ones(2, jnp.bfloat16)}),
    "host": np.arange(6.0).reshape(2, 3),
    "number": 3,
    "rate": 0.5,
    "nothing": None,
    "key": jax.random.key(7),
}


class Model(nnx.Module):
    """Parameters, a list of layers, and random keys."""

    def __init__(self, seed: int) -> None:
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)])
        self.dropout = nnx.Dropout(0.1, rngs=rngs)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def equal(first: Any, second: Any) -> bool:
    """Whether two trees have the same structure, types, shapes and entries."""
    assert str(jax.tree.structure(first)) == str(jax.tree.structure(second))
    return all(
        type(a) is type(b) and getattr(a, "dtype", None) == getattr(b, "dtype", None) and np.shape(a) == np.shape(b)
        and bool(np.all(jax.random.key_data(a) == jax.random.key_data(b) if is_key(a) else a == b))
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )  # fmt: skip


def is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def content(store: ArtifactStore, name: str) -> Path:
    return store.find(name).path


def test_a_tree_of_arrays_comes_back_in_the_types_and_structure_of_like(store: ArtifactStore) -> None:
    """Tuples, half precision, numbers, a None and a random key are what they were."""
    store.save(TREE, "tree")
    assert equal(store.load("tree", like=TREE), TREE)


def test_without_like_arrays_come_back_as_numpys_in_plain_containers(store: ArtifactStore) -> None:
    """Nothing of the program that saved them is needed; tuples are lists and keys their numbers."""
    store.save(TREE, "tree")
    found = store.load("tree")
    assert type(found["pair"][0]) is np.ndarray
    assert found["pair"][0].tolist() == [0, 1, 2]
    assert found["pair"][1]["half"].dtype == jnp.bfloat16
    assert (found["number"], found["rate"], found["nothing"]) == (3, 0.5, None)
    assert found["key"].tolist() == [0, 7]


def test_an_nnx_module_comes_back_as_a_new_one(store: ArtifactStore) -> None:
    """From a module with other parameters, which keeps them, from an abstract one, and from a state."""
    saved, other = Model(0), Model(1)
    store.save(saved, "model")
    kept = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(other)))
    for like in (other, nnx.eval_shape(lambda: Model(2))):
        found = store.load("model", like=like)
        assert isinstance(found, Model)
        assert equal(nnx.to_pure_dict(nnx.state(found)), nnx.to_pure_dict(nnx.state(saved)))
    state = store.load("model", like=nnx.state(other))
    assert equal(nnx.to_pure_dict(state), nnx.to_pure_dict(nnx.state(saved)))
    assert equal(nnx.to_pure_dict(nnx.state(other)), kept)


def test_an_nnx_optimizer_is_saved_with_its_moments(store: ArtifactStore) -> None:
    """What training needs to go on is a model too."""
    model = Model(0)
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    optimizer.step[...] = jnp.uint32(5)
    store.save(optimizer, "optimizer")
    found = store.load("optimizer", like=nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param))
    assert found.step[...] == 5


def test_a_train_state_comes_back_with_its_functions(store: ArtifactStore) -> None:
    """Parameters and moments from the disk, what is no array from `like`, which may be abstract."""
    layer = linen.Dense(3)
    variables = layer.init(jax.random.key(0), jnp.ones((1, 2)))
    state = TrainState.create(apply_fn=layer.apply, params=variables["params"], tx=optax.adamw(0.1))
    state = state.replace(step=3)
    store.save(state, "state")
    assert equal(store.load("state", like=state), state)
    abstract = jax.eval_shape(lambda: state)
    assert jax.tree.all(jax.tree.map(np.array_equal, store.load("state", like=abstract).params, state.params))


def test_any_program_with_orbax_reads_what_was_saved(store: ArtifactStore) -> None:
    """The content's directory is an ordinary checkpoint."""
    store.save({"w": np.arange(3.0)}, "model")
    with StandardCheckpointer() as checkpointer:
        assert checkpointer.restore(content(store, "model"))["w"].tolist() == [0.0, 1.0, 2.0]


def test_a_transformers_model_comes_back_with_its_tokenizer_beside_it(store: ArtifactStore) -> None:
    """By its own class, which the manifest names; the tokenizer loads from the same directory."""
    tiny = pytest.importorskip("tests.callbacks.tiny_trl", reason="trl is not installed")
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 280, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=1, num_key_value_heads=1))
    tokenizer = tiny.tokenizer()
    artifact = store.save(model, "policy", tokenizer=tokenizer)
    found = store.load("policy")
    assert type(found) is Qwen2ForCausalLM
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(artifact.path)("one plus")["input_ids"] == tokenizer("one plus")["input_ids"]


def test_a_file_and_a_directory_are_copied_under_their_names(store: ArtifactStore, tmp_path: Path) -> None:
    """`load` gives the path of the copy, which stays as it was when the original changes."""
    file = tmp_path / "notes.txt"
    file.write_text("first")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "rows.csv").write_text("a,b\n")
    artifact = store.save(file, "notes")
    store.save(str(tmp_path / "data"), "data")
    file.write_text("second")
    assert store.load("notes") == artifact.path
    assert (artifact.path.name, artifact.path.read_text()) == ("notes.txt", "first")
    assert (artifact.kind, artifact.sha256) == ("file", sha256(b"first").hexdigest())
    assert (store.load("data") / "deep" / "rows.csv").read_text() == "a,b\n"


def test_the_same_name_is_the_next_version_and_the_manifest_says_what_it_is(store: ArtifactStore) -> None:
    """Each version keeps its content and metadata; NumPy's numbers are written as plain ones."""
    for step in (1, 2, 3):
        store.save({"w": np.full(2, step)}, "model", {"step": step, "reward": np.float32(0.5), "note": None})
    assert store.versions("model") == [1, 2, 3]
    assert store.load("model")["w"].tolist() == [3, 3]
    assert store.load("model", 1)["w"].tolist() == [1, 1]
    manifest = orjson.loads((content(store, "model").parent / "manifest.json").read_bytes())
    assert (manifest["name"], manifest["version"], manifest["kind"], manifest["format"]) == (
        "model", 3, "model", "orbax",
    )  # fmt: skip
    assert manifest["metadata"] == {"step": 3, "reward": 0.5, "note": None}
    assert manifest["made_from"] == "builtins.dict"
    assert manifest["size"] == sum(path.stat().st_size for path in content(store, "model").rglob("*") if path.is_file())
    assert abs(manifest["time"] - time.time()) < 60
    assert store.find("model").metadata == manifest["metadata"]


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", ".hidden", "é", "a" * 129, "v\n", 3])
def test_a_name_that_is_no_safe_path_is_refused(name: Any, store: ArtifactStore, tmp_path: Path) -> None:
    """At once, for saving and for loading, and nothing is written."""
    for call in (lambda: store.save({"w": np.ones(1)}, name), lambda: store.load(name)):
        with pytest.raises(ArtifactError, match=r"expected letters, digits and `_\.-`"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (object(), "object, which cannot be saved as a model: expected an NNX module"),
        (linen.Dense(3), "Of a linen module give its variables"),
        ({"w": {"names": "abc"}}, r"\['w'\]\['names'\] is a builtins\.str"),
        ({"w": np.array(["a"])}, "numpy.ndarray, which cannot be saved"),
        ({}, "a dict without any array"),
        (3, "a int without any array"),
        ({"w": np.ones((0, 3))}, r"\['w'\] has no entries"),
        ("nowhere.txt", "nowhere.txt cannot be saved as an artifact: there is none"),
    ],
)
def test_what_is_no_model_is_refused_with_what_was_expected(
    given: Any, message: str, store: ArtifactStore, tmp_path: Path
) -> None:
    """Before anything is written."""
    with pytest.raises(ArtifactError, match=message):
        store.save(given, "model")
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_was_donated_or_is_traced_is_refused(store: ArtifactStore) -> None:
    """Each error says which array it is and where to save instead."""
    array = jnp.ones(3)
    array.delete()
    with pytest.raises(ArtifactError, match=r"\['w'\] was donated to a computation"):
        store.save({"w": array}, "model")
    with pytest.raises(ArtifactError, match="it is traced: save it outside of jit"):
        jax.jit(lambda x: store.save(x, "model"))(jnp.ones(3))


@pytest.mark.parametrize(
    ("metadata", "message"), [(["a"], "expected a mapping"), ({"a": [1]}, "'a'"), ({"a": np.ones(2)}, "'a'")]
)
def test_metadata_that_a_table_cannot_show_is_refused(metadata: Any, message: str, store: ArtifactStore) -> None:
    """Texts, numbers and None are all there is."""
    with pytest.raises(ArtifactError, match=message):
        store.save({"w": np.ones(1)}, "model", metadata)


def test_secrets_in_metadata_are_not_written(store: ArtifactStore) -> None:
    """Neither in the manifest nor in what the backends get."""
    artifact = store.save({"w": np.ones(1)}, "model", {"hub_token": "abc"})
    assert artifact.metadata == store.find("model").metadata == {"hub_token": "[secret]"}


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": np.ones(3)}, "b is in the artifact alone"),
        ({"w": np.ones(3), "b": np.ones(2), "c": 1}, "c is in `like` alone"),
        ({"w": np.ones(4), "b": np.ones(2)}, r"w has the shape \(3,\), not \(4,\)"),
    ],
)
def test_what_does_not_fit_to_like_is_named(like: Mapping[str, Any], message: str, store: ArtifactStore) -> None:
    """A missing entry, one too many and another shape."""
    store.save({"w": np.ones(3), "b": np.ones(2)}, "model")
    with pytest.raises(ArtifactError, match=message):
        store.load("model", like=like)


def test_what_is_not_there_is_answered_with_what_is(store: ArtifactStore) -> None:
    """An unknown name lists the names, an unknown version the versions."""
    with pytest.raises(ArtifactError, match="there are: none"):
        store.load("model")
    store.save({"w": np.ones(1)}, "model")
    with pytest.raises(ArtifactError, match=r"no artifact 'modle' in .*; there are: model"):
        store.load("modle")
    with pytest.raises(ArtifactError, match="has no version 2; there are: 1"):
        store.load("model", 2)


def test_a_damaged_file_is_named(store: ArtifactStore) -> None:
    """A flipped byte, a missing file and a broken manifest are each found before anything is loaded."""
    store.save({"w": np.arange(1000.0)}, "model")
    largest = max(
        (path for path in content(store, "model").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    data = largest.read_bytes()
    largest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=f"version 1, is damaged: {largest} has the checksum"):
        store.load("model")
    largest.unlink()
    with pytest.raises(ArtifactError, match=f"{largest} is missing"):
        store.load("model")
    (content(store, "model").parent / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"manifest\.json cannot be read"):
        store.load("model")


@pytest.mark.parametrize("kind", ["file", "arrays"])
def test_a_disk_that_is_full_leaves_the_older_versions_and_no_half_one(
    kind: str, store: ArtifactStore, tmp_path: Path
) -> None:
    """The error passes through, the draft is gone, and when there is room again the next version is saved."""
    rows = np.random.default_rng(0).normal(size=10_000)
    rows.tofile(tmp_path / "rows")
    given = tmp_path / "rows" if kind == "file" else {"w": rows}
    store.save(given, "model")
    with room_for(4096), pytest.raises(Exception, match="File too large"):
        store.save(given, "model")
    assert [path.name for path in (tmp_path / "artifacts" / "model").iterdir()] == ["v1"]
    store.load("model")
    store.save(given, "model")
    assert store.versions("model") == [1, 2]


def test_a_directory_that_holds_the_artifacts_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    """It would be copied into itself."""
    with pytest.raises(ArtifactError, match="the artifacts themselves are in it"):
        store.save(tmp_path, "everything")


KILLED = """
import sys
import numpy as np
from pathlib import Path
from toolkit.artifacts.store import ArtifactStore

store = ArtifactStore(Path(sys.argv[1]))
while True:
    print(store.save({"w": np.arange(2e6)}, "model").path, flush=True)
"""


def test_a_process_that_is_killed_while_it_saves_leaves_whole_versions(tmp_path: Path) -> None:
    """After kill -9 every version there is loads, and the next save goes on from them."""
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        time.sleep(0.1)
        process.kill()
    store = ArtifactStore(tmp_path)
    versions = store.versions("model")
    assert versions[:3] == [1, 2, 3]
    for version in versions:
        assert store.load("model", version)["w"][-1] == 2e6 - 1
    store.save({"w": np.arange(2)}, "model")
    assert store.versions("model") == [*versions, versions[-1] + 1]
    assert not list(tmp_path.rglob(".draft"))


SHARDED = """
import sys
import jax
import jax.numpy as jnp
from pathlib import Path
from toolkit.artifacts.store import ArtifactStore

mesh = jax.make_mesh((4,), ("x",))
spread = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
store = ArtifactStore(Path(sys.argv[1]))
tree = {"w": jax.device_put(jnp.arange(8.0), spread), "key": jax.random.key(1)}
store.save(tree, "model")
found = store.load("model", like=tree)["w"]
assert found.sharding == spread and found.tolist() == list(range(8))
one = jax.ShapeDtypeStruct((8,), "float32", sharding=jax.sharding.SingleDeviceSharding(jax.devices()[2]))
assert store.load("model", like={"w": one, "key": tree["key"]})["w"].devices() == {jax.devices()[2]}
"""


def test_sharded_arrays_come_back_sharded_and_load_on_one_device_too(tmp_path: Path, store: ArtifactStore) -> None:
    """On four devices as they were or moved to another, and in a process with a single one as NumPy's arrays."""
    import os

    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", SHARDED, str(tmp_path / "artifacts")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
    assert store.load("model")["w"].tolist() == list(range(8))


def test_saving_a_tree_of_arrays_imports_no_library_that_it_is_not_of(tmp_path: Path) -> None:
    """The kind of an object is known by its class, without the libraries it does not come from."""
    code = """
import sys
import numpy as np
from pathlib import Path
from toolkit.artifacts.store import ArtifactStore

ArtifactStore(Path(sys.argv[1])).save({"w": np.ones(1)}, "model")
print([name for name in ("torch", "transformers", "flax") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
