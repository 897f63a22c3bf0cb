"""Norms and histograms layer by layer, of JAX and of torch, and how they reach the log."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.distributed.tensor
from flax import linen, nnx

from toolkit.callbacks.layers import LayersCallback
from toolkit.callbacks.observer import Observer
from toolkit.compilation import compilations
from toolkit.logger import Logger
from toolkit.record import Histogram, Value
from toolkit.settings.callbacks import Histograms, Layers
from toolkit.sinks.memory import MemorySink
from toolkit.tensors import tensor_statistics
from toolkit.trees import EDGES, layer_name, layers, tree_statistics

PARAMETERS = {"embed": {"kernel": np.array([[3.0, 0.0], [0.0, 4.0]])}, "blocks": [{"w": np.full(4, 0.5)}] * 2}


def on_device(factor: float = 1.0, dtype: Any = jnp.float32) -> Any:
    """The parameters times a factor, as arrays of JAX."""
    return jax.tree.map(lambda leaf: jnp.asarray(factor * leaf, dtype), PARAMETERS)


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("model/layers/3/mlp/weight", "model.layers.3"),
        ("params/layers_12/mlp/kernel", "params.layers_12"),
        ("transformer/h/0/attn/bias", "transformer.h.0"),
        ("lm_head/weight", "lm_head"),
        ("embed/embedding", "embed"),
        ("model/norm/scale/inner", "model.norm"),
        ("w1", "w1"),
        ("0", "0"),
    ],
)
def test_a_layer_is_named_by_its_path(path: str, layer: str) -> None:
    """Up to the number of a block, else by the first two words before the array's own name."""
    assert layer_name(path.split("/")) == layer


def test_layers_of_flax_are_named_alike() -> None:
    """An NNX state, an NNX module and linen's parameters have the layers that their attributes name."""

    class Model(nnx.Module):
        def __init__(self) -> None:
            self.embed = nnx.Embed(5, 2, rngs=nnx.Rngs(0))
            self.blocks = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0)) for _ in range(2)])

    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> Any:
            return linen.Dense(2, name="block_0")(linen.Embed(5, 2, name="embed")(x))

    model = Model()
    assert layers(nnx.state(model, nnx.Param)).keys() == {"embed", "blocks.0", "blocks.1"}
    assert layers(model).keys() >= {"embed", "blocks.0", "blocks.1"}
    variables = Linen().init(jax.random.key(0), jnp.zeros(1, jnp.int32))
    assert layers(variables).keys() == {"params.embed", "params.block_0"}


@pytest.mark.parametrize("jitted", [False, True])
def test_norms_and_ratios_by_hand(jitted: bool) -> None:
    """Of each layer and of all; an update is divided by its layer's parameters; half precision is added up whole."""

    def found(parameters: Any, updates: Any) -> Any:
        return tree_statistics(parameters=parameters, updates=updates)

    values = (jax.jit(found) if jitted else found)(on_device(dtype=jnp.bfloat16), on_device(0.125)).values()
    assert values == {
        "layers/blocks.0/parameter_norm": 1.0,
        "layers/blocks.1/parameter_norm": 1.0,
        "layers/embed/parameter_norm": 5.0,
        "layers/total/parameter_norm": pytest.approx(np.sqrt(27)),
        "layers/total/parameter_nonfinite_layers": 0.0,
        "layers/blocks.0/update_norm": 0.125,
        "layers/blocks.1/update_norm": 0.125,
        "layers/embed/update_norm": 0.625,
        "layers/total/update_norm": pytest.approx(np.sqrt(27) / 8),
        "layers/total/update_nonfinite_layers": 0.0,
        "layers/blocks.0/update_ratio": 0.125,
        "layers/blocks.1/update_ratio": 0.125,
        "layers/embed/update_ratio": 0.125,
        "layers/total/update_ratio": 0.125,
    }


def test_a_layer_with_a_nan_is_counted_and_costs_no_other() -> None:
    """Its own norm and the total's are left out."""
    gradients = {"a": jnp.array([1.0, jnp.nan]), "b": jnp.array([3.0, 4.0]), "c": jnp.array([1, 2])}
    values = tree_statistics(gradients=gradients, parameters={"b": jnp.zeros(2)}, updates={"b": jnp.zeros(2)}).values()
    assert values["layers/b/gradient_norm"] == 5.0
    assert values["layers/total/gradient_nonfinite_layers"] == 1.0
    assert not values.keys() & {"layers/a/gradient_norm", "layers/total/gradient_norm", "layers/b/update_ratio"}
    assert not any(key.startswith("layers/c/") for key in values)


def test_histograms_hold_every_entry_of_a_small_layer_and_a_fair_share_of_a_large_one() -> None:
    """Counts as NumPy has them for small ones, and the same shares, nearly, for a million entries."""
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=500).astype(np.float32), rng.normal(size=(1000, 1000)).astype(np.float32)
    small[:3] = 0.0, 1e9, np.nan
    values = tree_statistics(gradients={"small": jnp.asarray(small), "large": jnp.asarray(large)}, histograms=True)
    expected = np.histogram(np.clip(small[np.isfinite(small)], EDGES[0], EDGES[-1]), np.asarray(EDGES, np.float32))[0]
    for name, all_of_it in (("small", expected), ("large", np.histogram(large, EDGES)[0])):
        found = values.values()[f"layers/{name}/gradient_histogram"]
        assert isinstance(found, Histogram)
        if name == "small":
            np.testing.assert_array_equal(found.counts, all_of_it)
        assert 400 < found.counts.sum() < 40_000
        np.testing.assert_allclose(found.counts / found.counts.sum(), all_of_it / all_of_it.sum(), atol=0.01)


def test_the_learning_rate_is_read_from_the_state_of_the_optimiser() -> None:
    """Optax keeps it there for `inject_hyperparams`; an optimiser without has nothing to tell."""
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    parameters = {"w": jnp.zeros(2)}
    state = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule).init(parameters)
    assert tree_statistics(optimizer=state).values()["optimizer/learning_rate"] == 1.0
    assert tree_statistics(optimizer=optax.adam(0.1).init(parameters)).values() == {}


def run(steps: int, settings: Layers, **trees: Any) -> tuple[MemorySink, Observer]:
    """A loop that hands its trees over and donates them at once."""
    sink = MemorySink()
    donating = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    observer = Observer(Logger([sink]), [LayersCallback(settings)])
    with observer:
        for step in range(steps):
            observer.step(step, trees=trees)
            trees = donating(trees)
            observer.logger.flush()
    return sink, observer


def test_the_worker_compiles_and_the_loop_goes_on() -> None:
    """At first, with histograms and without, only the compilation is logged; then norms of buffers that are gone."""
    before = compilations()
    sink, observer = run(7, Layers(every=2, histograms=Histograms(every=3)), parameters={"w": jnp.zeros(4)})
    norms = [(step, norm) for step, norm in sink.series("layers/w/parameter_norm")]
    assert norms == [(3, 6.0), (4, 8.0), (6, 12.0)]
    assert [step for step, _ in sink.series("layers/w/parameter_histogram")] == [3, 6]
    assert [step for step, _ in sink.series("observer/layers_compile_s", "system")] == [0, 2]
    assert compilations() == before + 2
    assert observer.logger.health.bad_values == 0


def test_without_trees_or_switched_off_nothing_is_done() -> None:
    """No row, and nothing compiled."""
    before = compilations()
    assert run(3, Layers(every=1))[0].records == []
    assert run(3, Layers(enabled=False), parameters={"w": jnp.zeros(4)})[0].records == []
    assert compilations() == before


def test_trees_that_cannot_be_read_cost_only_themselves() -> None:
    """A traced array, one that is gone, and things that are no arrays are reported."""
    gone = jnp.zeros(3)
    gone.delete()
    sink, observer = MemorySink(), Observer(Logger([]), [])
    for wrong in ({"parameters": {"w": gone}}, {"parameters": {"w": "text"}}, {"weights": {"w": jnp.zeros(2)}}, {}):
        observer = Observer(Logger([sink]), [LayersCallback(Layers(every=1))])
        with observer:
            for step in range(3):
                observer.step(step, trees=wrong)
                observer.logger.flush()
        assert (observer.logger.health.bad_values > 0) == bool(wrong), wrong
    assert not any(key.startswith("layers/") for record in sink.records for key in record.values)


def test_what_a_jitted_step_measured_is_logged_as_it_is() -> None:
    """A measurement, or a function for the worker, at every step that has one."""
    sink = MemorySink()
    with Observer(Logger([sink]), [LayersCallback(Layers(every=100))]) as observer:
        observer.step(3, trees=jax.jit(lambda g: tree_statistics(gradients=g))({"w": jnp.array([3.0, 4.0])}))
        observer.step(4, trees=lambda: {"layers/w/gradient_norm": 6.0})
    assert sink.series("layers/w/gradient_norm") == [(3, 5.0), (4, 6.0)]


def named(tree: dict[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}.weight": torch.tensor(leaf, dtype=torch.float32) for name, leaf in tree.items()}


@pytest.mark.parametrize("histograms", [False, True])
def test_tensors_of_torch_give_what_arrays_of_jax_give(histograms: bool) -> None:
    """The same keys and numbers; a parameter without a gradient is left out, and nothing is kept of the graph."""
    rng = np.random.default_rng(0)
    arrays = {"head": rng.normal(size=(3, 4)), "layers.0": rng.normal(size=7), "layers.1": rng.normal(size=(2, 2))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    frozen: dict[str, Any] = {**named(arrays), "frozen.weight": None, "count": torch.tensor(3)}
    fetch = tensor_statistics(gradients=frozen, parameters=named(arrays), histograms=histograms)
    tree = {name: {"weight": jnp.asarray(array)} for name, array in arrays.items()}
    expected = tree_statistics(gradients=tree, parameters=tree, histograms=histograms).values()
    assert_same(fetch(), expected)


def test_a_tensor_with_a_nan_is_counted_and_halves_are_added_up_whole() -> None:
    """As of JAX: no norm of its layer nor of all, and the other layers as ever."""
    gradients = {
        "a.weight": torch.tensor([1.0, torch.nan]),
        "b.weight": torch.full((300,), 0.1).to(torch.bfloat16),
        "c.weight": torch.tensor([torch.inf, 0.5]),
    }
    found = tensor_statistics(gradients=gradients, histograms=True)()
    expected = tree_statistics(gradients={name[0]: jnp.asarray(x.float().numpy()) for name, x in gradients.items()})
    assert_same({key: value for key, value in found.items() if "histogram" not in key}, expected.values())
    counts = [value.counts.sum() for key, value in sorted(found.items()) if isinstance(value, Histogram)]
    assert counts == [1.0, 300.0, 1.0]


def test_of_a_sharded_tensor_there_is_the_own_share(tmp_path: Path) -> None:
    """No process waits for another: one of them alone looks at the layers."""
    tensor = torch.arange(30_000.0).reshape(300, 100)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        sharded = torch.distributed.tensor.distribute_tensor(tensor, mesh, [torch.distributed.tensor.Shard(0)])
        found = tensor_statistics(parameters={"w": sharded}, histograms=True)()
    finally:
        torch.distributed.destroy_process_group()
    assert_same(found, tensor_statistics(parameters={"w": tensor}, histograms=True)())


def assert_same(found: dict[str, Value], expected: dict[str, Value]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        mine = found[key]
        if isinstance(value, Histogram):
            assert isinstance(mine, Histogram)
            np.testing.assert_array_equal(mine.counts, value.counts)
        else:
            assert mine == pytest.approx(value)


def test_a_large_tensor_is_sampled_and_without_tensors_there_is_nothing() -> None:
    """Also one that is not contiguous, in half precision."""
    large = torch.randn(600, 500).to(torch.bfloat16).t()
    found = tensor_statistics(parameters={"w": large}, histograms=True)()
    histogram = found["layers/w/parameter_histogram"]
    assert isinstance(histogram, Histogram)
    assert 10_000 < histogram.counts.sum() < 20_000
    assert tensor_statistics()() == {}
