"""Makes `keras_tiny.npz`: what KerasHub computes for a tiny RoBERTa, in float64, dropout 0.

Run by hand, never by the tests, in an environment of its own (Keras pulls in torch; TensorFlow is not needed):

    python -m venv keras-env
    keras-env/bin/pip install torch==2.13.0 keras==3.15.1 h5py grain rich regex tokenizers
    keras-env/bin/pip install --no-deps keras-hub==0.32.0
    keras-env/bin/python tests/model/golden/make_keras_golden.py

The file holds, with B sequences, S positions, K mask slots, V vocabulary:

| entry | what |
|---|---|
| `config` | JSON: the backbone's hyperparameters |
| `versions` | JSON: of Keras, KerasHub and torch |
| `token_ids`, `padding_mask` | (B, S); the last sequence is all padding |
| `mask_positions`, `y`, `sample_weight` | (B, K); unused slots point to position 0 and weigh 0 |
| `hidden` | (B, S, C), the backbone's output |
| `logits` | (B, K, V) |
| `loss/<reduction>` | of `SparseCategoricalCrossentropy(from_logits=True, reduction=...)` |
| `accuracy` | weighted `SparseCategoricalAccuracy` |
| `variables` | JSON: the path and shape of every variable, in the order in which they lie in the vectors below |
| `w0` | weights before, one vector |
| `g` | gradients of the default loss (reduction `sum_over_batch_size`) |
| `<run>/optimizer` | JSON: class name, arguments, variables excluded from decay |
| `<run>/losses` | (3,) the losses that three `train_on_batch` log |
| `<run>/w3` | weights after those three steps |
| `truncated_normal` | mean, deviation, smallest, largest of 10⁶ values of `TruncatedNormal(stddev=0.02)` |

Biases, gammas and betas are random and far from 0 and 1, so that a swapped or forgotten one shows.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import keras_hub
import numpy as np
import torch
from keras.src.backend.common import dtypes

CONFIG = {
    "vocabulary_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "dropout": 0.0,
    "max_sequence_length": 16,
}
LENGTHS = (16, 9, 5, 3, 12, 7, 4, 0)  # real tokens of each sequence
MASKED = (4, 2, 2, 1, 3, 2, 1, 0)  # used mask slots of each
SLOTS = 4  # K
START, PAD, END, MASK = 0, 1, 2, 63
STEPS = 3

RUNS = {  # name -> (class, arguments, parts of variable paths that weight decay leaves out)
    "adam_default": ("Adam", {"learning_rate": 5e-5}, []),  # KerasHub's compile() default
    "adam": ("Adam", {"learning_rate": 1e-2}, []),
    "adamw": ("AdamW", {"learning_rate": 1e-2, "weight_decay": 0.1}, ["bias", "gamma", "beta"]),
    "adam_global_clipnorm": ("Adam", {"learning_rate": 1e-2, "epsilon": 1e-3, "global_clipnorm": 0.05}, []),
    "adam_clipnorm": ("Adam", {"learning_rate": 1e-2, "epsilon": 1e-3, "clipnorm": 0.01}, []),
    "adam_clipvalue": ("Adam", {"learning_rate": 1e-2, "epsilon": 1e-3, "clipvalue": 0.002}, []),
}


def inputs(generator):
    """Padded features, labels and weights; the weights differ so that a mean that forgets them shows."""
    B, S, K = len(LENGTHS), CONFIG["max_sequence_length"], SLOTS
    token_ids = np.full((B, S), PAD)
    padding_mask = np.zeros((B, S), int)
    mask_positions, y, sample_weight = np.zeros((B, K), int), np.zeros((B, K), int), np.zeros((B, K))
    for b, (length, masked) in enumerate(zip(LENGTHS, MASKED, strict=True)):
        if length == 0:
            continue
        token_ids[b, :length] = [START, *generator.integers(3, MASK, length - 2), END]
        padding_mask[b, :length] = 1
        chosen = np.sort(generator.choice(np.arange(1, length - 1), masked, replace=False))
        mask_positions[b, :masked] = chosen
        y[b, :masked] = token_ids[b, chosen]
        sample_weight[b, :masked] = generator.uniform(0.5, 1.5, masked)
        token_ids[b, chosen[::2]] = MASK  # every other one keeps its token
    features = {"token_ids": token_ids, "padding_mask": padding_mask, "mask_positions": mask_positions}
    return features, y, sample_weight


def randomise(model, generator):
    """Weights large enough that every path through the model matters."""
    for variable in model.trainable_variables:
        last = variable.path.rsplit("/", 1)[-1]
        values = generator.normal(0.0, 0.3, variable.shape)
        variable.assign(values + 1.0 if last == "gamma" else values)


def flat(tensors):
    return np.concatenate([keras.ops.convert_to_numpy(tensor).reshape(-1) for tensor in tensors])


def main():
    # Off TensorFlow, Keras narrows most results to float32 even where everything that went in is float64.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    generator = np.random.default_rng(20)
    keras.utils.set_random_seed(20)
    features, y, sample_weight = inputs(generator)
    backbone = keras_hub.models.RobertaBackbone(**CONFIG)
    model = keras_hub.models.RobertaMaskedLM(backbone=backbone, preprocessor=None)
    randomise(model, generator)
    variables = model.trainable_variables
    w0 = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]

    logits = model(features, training=True)
    likeliest = keras.ops.convert_to_numpy(logits).argmax(axis=-1)
    y[:, 1] = np.where(sample_weight[:, 1] > 0, likeliest[:, 1], y[:, 1])  # else nothing would be accurate

    record = {
        "config": json.dumps(CONFIG),
        "versions": json.dumps(
            {"keras": keras.__version__, "keras_hub": keras_hub.__version__, "torch": torch.__version__}
        ),
        **features,
        "y": y,
        "sample_weight": sample_weight,
        "variables": json.dumps([[variable.path, list(variable.shape)] for variable in variables]),
        "w0": flat(w0),
    }

    without_slots = {name: features[name] for name in ("token_ids", "padding_mask")}
    record["hidden"] = keras.ops.convert_to_numpy(backbone(without_slots))
    record["logits"] = keras.ops.convert_to_numpy(logits)
    for reduction in ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        record[f"loss/{reduction}"] = keras.ops.convert_to_numpy(loss(y, logits, sample_weight))
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    accuracy.update_state(y, logits, sample_weight)
    record["accuracy"] = keras.ops.convert_to_numpy(accuracy.result())

    model.compile()  # KerasHub's default loss
    model.compute_loss(features, y, logits, sample_weight).backward()
    record["g"] = flat(variable.value.grad for variable in variables)
    model.zero_grad()

    for run, (name, arguments, excluded) in RUNS.items():
        for variable, values in zip(variables, w0, strict=True):
            variable.assign(values)
        optimizer = getattr(keras.optimizers, name)(**arguments)
        if excluded:
            optimizer.exclude_from_weight_decay(var_names=excluded)
        model.compile(optimizer=optimizer)
        losses = []
        for _ in range(STEPS):
            model.reset_metrics()  # else the logged loss is the mean since the first step
            losses.append(model.train_on_batch(features, y, sample_weight, return_dict=True)["loss"])
        record[f"{run}/optimizer"] = json.dumps({"class": name, "arguments": arguments, "excluded": excluded})
        record[f"{run}/losses"] = np.array(losses)
        record[f"{run}/w3"] = flat(variables)

    sample = keras.initializers.TruncatedNormal(stddev=0.02, seed=20)((1000, 1000))
    sample = keras.ops.convert_to_numpy(sample)
    record["truncated_normal"] = np.array([sample.mean(), sample.std(), sample.min(), sample.max()])

    for name, values in record.items():
        values = np.asarray(values)
        assert values.dtype.kind != "f" or values.dtype == np.float64, f"{name} is {values.dtype}"
    path = Path(__file__).with_name("keras_tiny.npz")
    np.savez_compressed(path, **record)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, {len(record)} entries")
    for run in RUNS:
        print(f"{run}: losses {record[f'{run}/losses']}")
    print(f"gradient norm {np.linalg.norm(record['g']):.4f}")


if __name__ == "__main__":
    main()
