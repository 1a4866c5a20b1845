"""Arrays belong to the backend: model, heads, LoRA, loss, clipping and optimizer reach them through its rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from other_ops import OPERATORS, Opaque, broken, opaque_ops
from small_models import TEXTS, random_batch, random_params, small_config, small_masked_lm

from pyroberta.data.examples import numbered
from pyroberta.model.batch import Batch, take
from pyroberta.model.encoder import encoder_forward
from pyroberta.model.model import model_logits
from pyroberta.ops import REFERENCE, Ops
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import AdamW, TorchAdamW
from pyroberta.training.state import TrainState
from pyroberta.training.step import NonFiniteError, Trained, evaluate_step, train_step

LOSS = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
LORA = {"lora_rank": 2, "lora_targets": ("query", "value", "output"), "dropout": 0.1}
CONFIGS = {
    "masked_lm": small_config(**LORA),
    "untied": small_config(**LORA, tie_embeddings=False),
    "classifier": small_config(**LORA, num_classes=3, classifier_dropout=0.2),
}
CLIPS = [{}, {"clipnorm": 0.01}, {"clipvalue": 1e-3}, {"global_clipnorm": 0.05}]


def batches(config) -> list[Batch]:
    """Two parts of one update."""
    whole = random_batch(config, [3, 1, 7, 4], seed=1, masked_share=0.5)
    if config.num_classes:
        whole = replace(whole, target_rows=whole.starts[:-1], labels=np.array([0, 2, 1, 0]), weights=np.ones(4))
    return numbered([take(whole, np.arange(2)), take(whole, np.arange(2, 4))])


def run(config, ops: Ops, optimizer, steps: int, trainable=None, recompute: bool = False, loss=LOSS) -> tuple:
    """Some updates with the table's own arrays."""
    params = random_params(config, 0, np.float32).to(ops)
    optimizer.build(params)
    names = [name for name in params if trainable is None or trainable(name)]
    model = Trained(ops, config, loss, optimizer, names, params.zeros_like(), recompute)
    state = TrainState(params, optimizer.slots, seed=3)
    results = [result for _ in range(steps) for result in train_step(model, state, batches(config))]
    return state, [(result.losses, result.predicted, result.denominator) for result in results]


def on_host(state: TrainState) -> list[np.ndarray]:
    return [arrays.to(REFERENCE).flat for arrays in (state.params, *state.slots.values())]


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_training_through_the_rows_alone_gives_the_same_bits(name: str, clip: dict, recompute: bool):
    config = CONFIGS[name]
    (plain, expected), (hidden, found) = (
        run(config, ops, AdamW(0.01, weight_decay=0.1, **clip), 3, recompute=recompute)
        for ops in (REFERENCE, opaque_ops())
    )
    assert isinstance(hidden.params.flat, Opaque)
    for ours, theirs in zip(on_host(hidden), on_host(plain), strict=True):
        assert np.array_equal(ours, theirs)
    assert str(found) == str(expected)
    assert (hidden.step, hidden.position) == (plain.step, plain.position) == (3, 12)
    assert not np.array_equal(plain.params.flat, random_params(config, 0, np.float32).flat)


def test_so_does_a_loss_on_probabilities():
    config = small_config(num_classes=3, classifier_hidden_dim=5, classifier_dropout=0.2)
    loss = SparseCategoricalCrossentropy(from_logits=False)
    (plain, expected), (hidden, found) = (
        run(config, ops, AdamW(0.01), 3, loss=loss) for ops in (REFERENCE, opaque_ops())
    )
    for ours, theirs in zip(on_host(hidden), on_host(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_so_do_amsgrad_and_a_moving_average():
    options = {"amsgrad": True, "use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 2}
    runs = [run(CONFIGS["masked_lm"], ops, AdamW(0.01, **options), 3) for ops in (REFERENCE, opaque_ops())]
    (plain, _), (hidden, _) = runs
    assert list(plain.slots) == ["m", "v", "v_hat", "average"]
    assert all(np.array_equal(a, b) for a, b in zip(on_host(hidden), on_host(plain), strict=True))


@pytest.mark.parametrize(
    "trainable", [lambda name: "lora" in name, lambda name: name.startswith("head."), lambda name: ".1." in name]
)
def test_so_does_training_a_part_of_the_parameters(trainable):
    runs = [run(CONFIGS["masked_lm"], ops, TorchAdamW(0.01), 2, trainable) for ops in (REFERENCE, opaque_ops())]
    (plain, expected), (hidden, found) = runs
    assert all(np.array_equal(a, b) for a, b in zip(on_host(hidden), on_host(plain), strict=True))
    assert str(found) == str(expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_so_do_evaluation_logits_and_hidden_states(name: str):
    config, table = CONFIGS[name], opaque_ops()
    batch = batches(config)[1]
    found = []
    for ops in (REFERENCE, table):
        params = random_params(config, 0, np.float32).to(ops)
        result = evaluate_step(ops, params, config, batch, LOSS)
        hidden = [ops.to_host(state) for state in encoder_forward(ops, params, config, batch)[0]]
        found.append([result.losses, result.predicted, model_logits(ops, params, config, batch, batch.target_rows)])
        found[-1] += hidden
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("row", "call"), [("attention_forward", 1), ("feed_forward_backward", 0), ("layer_norm_backward", 1)]
)
def test_so_does_the_report_of_a_number_that_is_not_finite(row: str, call: int):
    messages = []
    for wrap in (lambda ops: ops, opaque_ops):
        with pytest.raises(NonFiniteError) as caught:
            run(small_config(dropout=0.1), wrap(broken(row, call)), AdamW(), 1)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert f"is {row} " in messages[0]


def test_an_update_with_a_gradient_that_is_not_finite_leaves_everything_as_it_was():
    config = CONFIGS["masked_lm"]
    params = random_params(config, 0)
    optimizer = AdamW(0.01, weight_decay=0.1, global_clipnorm=1.0)
    optimizer.build(params)
    optimizer.m.flat[:], optimizer.v.flat[:] = 0.5, 0.25
    state = TrainState(params, optimizer.slots, step=4, position=7)
    before = on_host(state)
    model = Trained(broken("gelu_backward", 0), config, LOSS, optimizer, list(params), params.zeros_like())
    with pytest.raises(NonFiniteError):
        train_step(model, state, batches(config))
    assert all(np.array_equal(now, then) for now, then in zip(on_host(state), before, strict=True))
    assert (state.step, state.position) == (4, 7)


def test_a_task_reads_nothing_but_through_the_rows():
    """What a model is asked, and its training, on a table whose arrays nobody else can read."""
    answers = []
    for table in (REFERENCE, opaque_ops()):
        model = small_masked_lm(dropout=0.1, seed=2, backend="numpy")
        model.backbone.ops = table
        history = model.fit(TEXTS, batch_size=2, validation_split=0.4, gradient_accumulation_steps=2, verbose=0).history
        found = [history, model.evaluate(TEXTS, verbose=0), model.train_on_batch(TEXTS[:2])]
        found += [model.predict(["It is<mask>."], verbose=0).tolist(), model.fill_mask("It is<mask>.")]
        found += [model.score(TEXTS[:3], verbose=0), model.embed(TEXTS, verbose=0).tolist()]
        found += [model.embed(TEXTS[0], layer=1, pooling=None).tolist(), model.params.flat.tolist()]
        found.append(model.backbone({"token_ids": [[0, 5, 2]]}).tolist())
        answers.append(str(found))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_opaque_array_refuses_to_be_read(operator: str):
    with pytest.raises(TypeError, match="belongs to the backend"):
        getattr(Opaque(np.ones(2)), f"__{operator}__")()


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + x,
        lambda x: 1.0 * x,
        lambda x: x[0],
        lambda x: np.sqrt(x),
        lambda x: np.asarray(x),
        lambda x: np.concatenate([x, x]),
        list,
        len,
        bool,
        float,
    ],
)
def test_neither_operators_nor_numpy_take_an_opaque_array(use):
    with pytest.raises(TypeError):
        use(Opaque(np.ones(2)))
