"""The backend as a whole: models train and predict through its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cuda_simulator import ORDERS, extension, simulated
from small_models import random_batch, random_params, small_config

from pyroberta.model.batch import Batch
from pyroberta.model.model import model_logits
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE, Ops
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import AdamW
from pyroberta.training.state import TrainState
from pyroberta.training.step import Trained, evaluate_step, train_step

pytestmark = pytest.mark.cuda

LOSS = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
SIZES = {"vocabulary_size": 61, "hidden_dim": 12, "intermediate_dim": 20, "max_sequence_length": 40, "dropout": 0.1}
CONFIGS = {
    "masked_lm": small_config(**SIZES, lora_rank=2, lora_targets=("query", "value", "output")),
    "classifier": small_config(**SIZES, num_classes=3, classifier_dropout=0.2),
}


def batch_of(config, seed: int) -> Batch:
    batch = random_batch(config, [33, 1, 7], seed, masked_share=0.4)
    if not config.num_classes:
        return batch
    return replace(batch, target_rows=batch.starts[:-1], labels=np.array([0, 2, 1]), weights=np.ones(3))


def moved(arrays: dict[str, Arrays], ops: Ops, dtype: str) -> dict[str, Arrays]:
    return {name: array.astype(dtype).to(ops) for name, array in arrays.items()}


def step(config, ops: Ops, arrays: dict[str, Arrays], number: int) -> dict[str, Arrays]:
    """What an update makes of the parameters and the slots, with the gradient and the losses."""
    params = arrays["params"]
    optimizer, sums = AdamW(0.01, weight_decay=0.1, global_clipnorm=0.05), params.zeros_like()
    optimizer.build(params)
    for name, slot in optimizer.slots.items():
        slot.copy_from(arrays[name])
    model = Trained(ops, config, LOSS, optimizer, list(params), sums)
    state = TrainState(params, optimizer.slots, seed=3, step=number)
    (result,) = train_step(model, state, [batch_of(config, number)])
    losses = Arrays({"losses": result.losses.shape}, result.losses.dtype)
    losses.flat[:] = result.losses
    return {"params": params, **optimizer.slots, "gradient": sums, "losses": losses}


# The errors of a whole step have no useful bound: it would assume that all roundings of all ops go one way. That CUDA's
# rows come as near as NumPy's is a figure, measured on these numbers alone.
@pytest.mark.parametrize("name", CONFIGS)
def test_ten_steps_are_as_near_to_float64_as_numpys(name):
    config = CONFIGS[name]
    params = random_params(config, 0, np.float32)
    arrays = {"params": params, "m": params.zeros_like(), "v": params.zeros_like()}
    for number in range(10):
        runs = [(REFERENCE, "float64"), (simulated(), "float32"), (REFERENCE, "float32")]
        exact, cuda, numpy = (step(config, ops, moved(arrays, ops, dtype), number) for ops, dtype in runs)
        for of in exact:
            true, one, other = (found[of].to(REFERENCE).astype("float64") for found in (exact, cuda, numpy))
            # Of a gradient whose true value is 0, rounding alone decides the sign and so Adam's step.
            names = [name for name in true if not name.endswith("key.bias") or of != "params"]
            true, one, other = (np.concatenate([x[name].ravel() for name in names]) for x in (true, one, other))
            size = np.linalg.norm(true)
            error, theirs = np.linalg.norm(one - true), np.linalg.norm(other - true)
            assert error <= 4.0 * theirs + 1e-6 * size, f"step {number}, {of}: {error:.2e}, NumPy's {theirs:.2e}"
        arrays = {of: numpy[of] for of in arrays}


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_step_has_the_same_bits_in_each_order_of_threads(precision):
    config, found = CONFIGS["masked_lm"], []
    params = random_params(config, 0, np.float32)
    arrays = {"params": params, "m": params.zeros_like(), "v": params.zeros_like()}
    for order in ORDERS:
        extension().set_order(order)
        results = step(config, simulated(precision), moved(arrays, simulated(precision), "float32"), 0)
        found.append(b"".join(array.to(REFERENCE).flat.tobytes() for array in results.values()))
    extension().set_order(0)
    assert len(set(found)) == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_and_logits(name):
    config, ops = CONFIGS[name], simulated()
    batch, params = batch_of(config, 0), random_params(config, 0, np.float32)
    on_device = params.to(ops)
    ours, theirs = (evaluate_step(*both, config, batch, LOSS) for both in ((ops, on_device), (REFERENCE, params)))
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-5)
    np.testing.assert_array_equal(ours.predicted, theirs.predicted)
    logits = [
        np.concatenate(list(model_logits(*both, config, batch, batch.target_rows)))
        for both in ((ops, on_device), (REFERENCE, params))
    ]
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-5)
