"""Attributes: what is set takes effect and is checked, or setting it is an error that says what to do instead."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace

import numpy as np
import pytest
from small_models import TEXTS, small_config, small_masked_lm, small_tokenizer

from pyroberta import MaskedLMPreprocessor, TextClassifier, TextClassifierPreprocessor, callbacks, optimizers
from pyroberta.formats.shards import parse_size
from pyroberta.ops import REFERENCE
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.masked_lm import MaskedLM
from pyroberta.training import losses, metrics, schedules


def small_classifier() -> TextClassifier:
    return TextClassifier(small_masked_lm().backbone, 2, TextClassifierPreprocessor(small_tokenizer(), 40))


MAKERS = {
    "MaskedLM": small_masked_lm,
    "TextClassifier": small_classifier,
    "Backbone": lambda: small_masked_lm().backbone,
    "TokenEmbedding": lambda: small_masked_lm().backbone.token_embedding,
    "MaskedLMPreprocessor": lambda: MaskedLMPreprocessor(small_tokenizer(), 40),
    "TextClassifierPreprocessor": lambda: TextClassifierPreprocessor(small_tokenizer(), 40),
    "Tokenizer": lambda: copy.copy(small_tokenizer()),  # which others share
    "Adam": optimizers.Adam,
    "AdamW": optimizers.AdamW,
    "TorchAdam": optimizers.TorchAdam,
    "TorchAdamW": optimizers.TorchAdamW,
    "SparseCategoricalCrossentropy": lambda: losses.SparseCategoricalCrossentropy(from_logits=True),
    "Accuracy": metrics.Accuracy,
    "Perplexity": metrics.Perplexity,
    "EarlyStopping": callbacks.EarlyStopping,
    "ModelCheckpoint": lambda: callbacks.ModelCheckpoint("runs"),
    "CSVLogger": lambda: callbacks.CSVLogger("log.csv"),
    "ProgressBar": callbacks.ProgressBar,
}

# What Keras has and would do nothing here, and a piece of what is said of it.
UNSETTABLE = {
    "MaskedLM": {
        "run_eagerly": "plain Python", "dtype": "give dtype=", "metrics": "compile takes them",
        "layers": "Keras has it", "train_step": "Keras has it", "trainable_variables": "freeze", "labels": "no classes",
        "params": "changing", "steps_per_execution": "nothing to compile", "fit": "a method",
    },
    "TextClassifier": {
        "dropout": "classifier_dropout=", "activation": "make another", "hidden_dim": "with_head",
        "num_classes": "make another", "pooled_dense": "head's", "metrics": "compile takes them",
    },
    "Backbone": {
        "dropout": "replace", "num_layers": "make another", "params": "changing", "dtype": "give dtype=",
        "optimizer": "method of a task", "token_embedding": "changing", "freeze": "a method", "layers": "Keras has it",
    },
    "TokenEmbedding": {"trainable": "backbone.freeze", "embeddings": "changing", "input_dim": "config"},
    "MaskedLMPreprocessor": {"masker": "mask_selection_rate", "packer": "sequence_length", "dtype": "Keras has it"},
    "TextClassifierPreprocessor": {"packer": "sequence_length", "encode": "a method"},
    "Tokenizer": {
        "vocabulary": "another Tokenizer", "merges": "another Tokenizer", "pad_token": "another Tokenizer",
        "pad_token_id": "follows", "is_special": "follows", "added_tokens": "add_tokens", "vocabulary_size": "follows",
        "unsplittable_tokens": "add_tokens", "dtype": "another Tokenizer",
    },
    "Adam": {
        "lr": "learning_rate", "decay": "a schedule", "loss_scale_factor": "losses are not scaled",
        "gradient_accumulation_steps": "argument of fit", "exclude_from_weight_decay": "a method",
    },
    "TorchAdamW": {"lr": "learning_rate", "decay": "weight_decay"},
    "SparseCategoricalCrossentropy": {"fn": "no backward", "dtype": "another loss"},
    "Accuracy": {"total": "numerator", "reset_state": "reset", "result": "a method"},
    "Perplexity": {"count": "denominator"},
    "EarlyStopping": {"monitor": "make another", "mode": "make another", "monitor_op": "make another"},
    "ModelCheckpoint": {"period": "save_freq", "monitor": "make another"},
    "CSVLogger": {"sep": "separator"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "said"), [(kind, *item) for kind, names in UNSETTABLE.items() for item in names.items()]
)
def test_what_would_do_nothing_cannot_be_set(kind, name, said):
    with pytest.raises(AttributeError, match=rf"^{kind}\.{name} can't be set: .*{said}"):
        setattr(MAKERS[kind](), name, 0.5)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_name_that_nobody_has_can_be_set(kind):
    instance = MAKERS[kind]()
    instance.note, instance.name = "mine", "my own"
    assert (instance.note, instance.name) == ("mine", "my own")


def test_a_subclass_may_have_such_a_name_for_itself():
    class Counting(metrics.Metric):
        def __init__(self):
            super().__init__()
            self.count = self.total = 0

    class Eager(MaskedLM):
        run_eagerly = False

    assert Counting().count == 0
    lm = small_masked_lm()
    eager = Eager(lm.backbone, lm.preprocessor)
    eager.run_eagerly = True
    assert eager.run_eagerly


# What takes effect: a wrong value, and what is said of it. The constructor says the same of an argument of that name.
WRONG = {
    "MaskedLM": {
        "trainable": ("False", "trainable must be True or False, got 'False'"),
        "stop_training": ("no", "stop_training must be True or False"),
        "optimizer": ("sgd", "optimizer must be one of adam, .* got 'sgd'"),
        "loss": ("mse", "loss must be one of .* got 'mse'"),
        "seed": (-1, "seed must be a whole number of at least 0"),
        "backbone": ("roberta_tiny_en", "the backbone should be one of pyroberta's"),
        "preprocessor": ("roberta_tiny_en", "the preprocessor should be one of pyroberta's"),
    },
    "TextClassifier": {
        "labels": (["no"], "labels should be 2 different names"),
        "backbone": (small_masked_lm, "the backbone should be one of pyroberta's"),
    },
    "Backbone": {
        "trainable": (1, "trainable must be True or False, got 1"),
        "ops": ("numpy", "the ops should be one of pyroberta's"),
        "config": (small_config(), "parameters have other names or shapes"),
    },
    "MaskedLMPreprocessor": {
        "tokenizer": ("roberta_tiny_en", "tokenizer should be an object of pyroberta's"),
        "sequence_length": (2, "sequence_length must be a whole number of at least 3"),
        "truncate": ("longest", "truncate must be one of"),
        "mask_selection_rate": (1.5, "mask_selection_rate must be from 0 to 1, got 1.5"),
        "mask_selection_length": (True, "mask_selection_length must be a whole number"),
        "mask_token_rate": ("0.1", "mask_token_rate must be a number from 0 to 1"),
        "random_token_rate": (0.3, "cannot sum to more than 1"),
        "count": ("some", "count must be one of"),
        "whole_words": ("False", "whole_words must be True or False"),
        "seed": (True, "seed must be a whole number"),
    },
    "Tokenizer": {"add_prefix_space": ("False", "add_prefix_space must be True or False, got 'False'")},
    "Adam": {
        "learning_rate": ("a", "learning_rate must be a number >= 0 or a schedule"),
        "beta_1": ("0.9", r"beta_1 must be in \[0, 1\)"),
        "beta_2": (True, r"beta_2 must be in \[0, 1\)"),
        "epsilon": (0, "epsilon must be positive"),
        "weight_decay": ("0.1", "weight_decay must be None or >= 0"),
        "clipnorm": (0, "clipnorm must be None or positive"),
    },
    "AdamW": {"weight_decay": (None, "weight_decay must be a number >= 0")},
    "TorchAdamW": {"weight_decay": (-1, "weight_decay must be a number >= 0")},
    "SparseCategoricalCrossentropy": {
        "reduction": ("average", "reduction must be one of"),
        "from_logits": ("False", "from_logits must be True or False"),
        "ignore_class": ("0", "ignore_class must be a whole number"),
    },
    "EarlyStopping": {
        "patience": ("3", "patience must be a whole number of at least 0"),
        "min_delta": ("0", "min_delta must be a number"),
        "baseline": ("0.5", "baseline must be a number or None"),
        "restore_best_weights": ("False", "restore_best_weights must be True or False"),
    },
    "ModelCheckpoint": {
        "save_freq": (0.5, "save_freq must be 'epoch' or a number of steps"),
        "save_best_only": ("False", "save_best_only must be True or False"),
    },
    "ProgressBar": {"verbose": (3, "verbose must be 0")},
}
CONSTRUCTORS = {
    "MaskedLM": lambda **given: MaskedLM(**{"backbone": small_masked_lm().backbone} | given),
    "MaskedLMPreprocessor": lambda **given: MaskedLMPreprocessor(**{"tokenizer": small_tokenizer()} | given),
    "Adam": optimizers.Adam,
    "AdamW": optimizers.AdamW,
    "TorchAdamW": optimizers.TorchAdamW,
    "SparseCategoricalCrossentropy": losses.SparseCategoricalCrossentropy,
    "EarlyStopping": callbacks.EarlyStopping,
    "ModelCheckpoint": lambda **given: callbacks.ModelCheckpoint("runs", **given),
    "ProgressBar": callbacks.ProgressBar,
}
NOT_ARGUMENTS = ("trainable", "stop_training", "optimizer", "loss")  # of a task: no arguments of the constructor


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"), [(kind, n, *item) for kind, names in WRONG.items() for n, item in names.items()]
)
def test_what_takes_effect_is_checked_when_it_is_set_as_in_the_constructor(kind, name, value, said):
    instance = MAKERS[kind]()
    before = getattr(instance, name)
    with pytest.raises((TypeError, ValueError), match=said):
        setattr(instance, name, value)
    assert getattr(instance, name) is before or getattr(instance, name) == before
    if kind in CONSTRUCTORS and name not in NOT_ARGUMENTS:
        with pytest.raises((TypeError, ValueError), match=said):
            CONSTRUCTORS[kind](**{name: value})


def test_one_way_to_clip_at_a_time_and_no_decay_that_is_not_saved():
    optimizer = optimizers.Adam(clipnorm=1.0)
    with pytest.raises(ValueError, match=r"only one of .* can be set, got clipnorm=1\.0, global_clipnorm=2\.0"):
        optimizer.global_clipnorm = 2.0
    optimizer.clipnorm = None
    optimizer.global_clipnorm = 2
    with pytest.raises(ValueError, match=r"TorchAdam has no weight_decay, .* TorchAdamW decays"):
        optimizers.TorchAdam().weight_decay = 0.1


def test_what_is_set_takes_effect():
    lm = small_masked_lm(dropout=0.0)
    still = lm.fit(TEXTS, verbose=0).history["loss"]
    lm = small_masked_lm(dropout=0.0)
    lm.backbone.config = replace(lm.backbone.config, dropout=0.5)
    assert lm.fit(TEXTS, verbose=0).history["loss"] != still
    lm.optimizer = "adamw"
    assert type(lm.optimizer) is optimizers.AdamW
    lm.preprocessor.sequence_length = np.int64(9)
    assert lm.preprocessor("a b")[0]["token_ids"].shape == (9,)
    lm.backbone.ops = REFERENCE
    lm.preprocessor.mask_token_rate, lm.preprocessor.random_token_rate = 0.1, 0.9


def test_a_loss_that_was_changed_since_is_looked_at_again():
    lm = small_masked_lm()
    lm.loss.ignore_class = 3
    for call in (lm.fit, lm.evaluate):
        with pytest.raises(ValueError, match="ignore_class applies to a loss that is called on arrays"):
            call(TEXTS, verbose=0)


def test_another_backbone_must_fit_the_task_and_the_preprocessor():
    classifier, three = small_classifier(), small_masked_lm().backbone.with_head(3)
    with pytest.raises(ValueError, match="a head for 3 classes, but the old one a head for 2 classes: make another"):
        classifier.backbone = three
    with pytest.raises(ValueError, match="the preprocessor makes sequences of up to 40 tokens, but the model takes 9"):
        classifier.backbone = Backbone(**SIZES | {"vocabulary_size": 300}, max_sequence_length=9, num_classes=2)
    with pytest.raises(ValueError, match=r"up to 41 tokens.*TextClassifierPreprocessor\(sequence_length=40\)"):
        classifier.preprocessor = TextClassifierPreprocessor(small_tokenizer(), 41)


def test_the_rate_of_a_head_that_is_there_already_is_not_ignored():
    backbone = small_classifier().backbone
    assert TextClassifier(backbone, 2, classifier_dropout=backbone.config.classifier_dropout).backbone is backbone
    with pytest.raises(ValueError, match=r"classifier_dropout is 0\.5, but the backbone has a head for 2"):
        TextClassifier(backbone, 2, classifier_dropout=0.5)


SIZES = {"vocabulary_size": 13, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}


COUNTS = (*SIZES, "max_sequence_length", "num_classes", "start_id", "pad_id", "end_id", "lora_rank")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [True, "2", 2.0, [2]])
def test_a_field_that_counts_takes_whole_numbers_alone(name, value):

    with pytest.raises(ValueError, match=f"{name} must be"):
        Backbone(**SIZES | {name: value})


@pytest.mark.parametrize(
    "name", ["dropout", "attention_dropout", "classifier_dropout", "layer_norm_epsilon", "lora_alpha"]
)
@pytest.mark.parametrize("value", [True, False, "0.1", float("nan"), float("inf"), -0.1])
def test_a_field_that_is_a_rate_takes_numbers_alone(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        Backbone(**SIZES | {"lora_rank": 2, name: value})


def test_a_field_that_is_a_fact_takes_bools_alone():
    with pytest.raises(TypeError, match="tie_embeddings must be True or False, got 'False'"):
        Backbone(**SIZES, tie_embeddings="False")


def test_numbers_of_numpy_are_taken_and_can_be_saved(tmp_path):
    sizes = {name: np.int64(size) for name, size in SIZES.items()}
    rates = {"dropout": np.float32(0.25), "layer_norm_epsilon": np.float64(1e-5), "pad_id": np.int32(1)}
    backbone = Backbone(**sizes, **rates, tie_embeddings=np.bool_(True))
    assert {type(value) for value in vars(backbone.config).values()} <= {int, float, bool, type(None), tuple}

    MaskedLM(backbone).save_to_preset(tmp_path / "saved", dtype=np.float64)
    assert Backbone.from_preset(tmp_path / "saved", dtype=np.dtype("float64")).config.dropout == 0.25
    optimizer = optimizers.AdamW(np.float32(0.5), np.int64(1), beta_1=np.float64(0.5), clipnorm=np.int8(1))
    assert {type(value) for value in optimizer.get_config().values()} <= {float, str, list, bool, type(None)}
    TextClassifier(backbone, np.int64(2), seed=np.uint8(3))
    schedule = schedules.Linear(np.float32(0.5), total_steps=np.int64(4))
    assert schedule.get_config() == {**schedules.Linear(0.5, 4).get_config()}
    assert {type(value) for value in schedule.get_config().values()} <= {str, float, int}


FACTS = {
    "shuffle": lambda lm, value: lm.fit(TEXTS, shuffle=value, verbose=0),
    "load_weights": lambda lm, value: MaskedLM.from_preset("roberta_tiny_en", load_weights=value),
    "load_optimizer": lambda lm, value: MaskedLM.from_preset("roberta_tiny_en", load_optimizer=value),
    "include_optimizer": lambda lm, value: lm.save_to_preset("saved", include_optimizer=value),
    "train_head": lambda lm, value: lm.backbone.enable_lora(2, train_head=value),
    "recompute": lambda lm, value: lm.compile(recompute=value),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_text_is_no_bool(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 'False'"):
        FACTS[name](small_masked_lm(), "False")


@pytest.mark.parametrize("seed", ["0", True, -1, 0.5, None])
def test_a_seed_is_a_whole_number(seed):
    for call in (Backbone, small_masked_lm().backbone.with_head, small_masked_lm().backbone.enable_lora):
        arguments = SIZES if call is Backbone else {"num_classes": 2} if "with" in call.__name__ else {"rank": 2}
        with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
            call(**arguments, seed=seed)


NO_DTYPES = (None, "float", float, "half", "double", "int8", int, np.int32, np.floating, "f4", 32, "")


@pytest.mark.parametrize("dtype", NO_DTYPES)
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_dtype_to_save_in_is_named_as_it_is(tmp_path, dtype, format):
    lm = small_masked_lm()
    with pytest.raises(ValueError, match="dtype must be one of float32, float16, bfloat16, float64, got "):
        lm.save_to_preset(tmp_path / "saved", dtype=dtype, format=format)
    assert not list(tmp_path.iterdir())
    if dtype is None:  # as in KerasHub
        assert Backbone(**SIZES, dtype=dtype).dtype == "float32"
        return
    with pytest.raises(ValueError, match="dtype must be 'float32', 'float64' or 'mixed_bfloat16', got "):
        Backbone(**SIZES, dtype=dtype)


@pytest.mark.parity
def test_every_name_of_the_living_keras_is_here_or_refused():
    import keras
    import keras_hub
    import torch

    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "a", "b", "ab", "<mask>"])}
    models = keras_hub.models
    tokenizer = models.RobertaTokenizer(vocabulary=vocabulary, merges=["a b"])
    backbone = models.RobertaBackbone(**SIZES | {"vocabulary_size": 8}, max_sequence_length=8)
    preprocessors = (models.RobertaMaskedLMPreprocessor, models.RobertaTextClassifierPreprocessor)
    for_lm, for_classes = (kind(tokenizer, sequence_length=8) for kind in preprocessors)
    theirs = {
        "MaskedLM": models.RobertaMaskedLM(backbone, for_lm),
        "TextClassifier": models.RobertaTextClassifier(backbone, num_classes=2, preprocessor=for_classes),
        "Backbone": backbone,
        "MaskedLMPreprocessor": for_lm,
        "TextClassifierPreprocessor": for_classes,
        "Tokenizer": tokenizer,
        "AdamW": keras.optimizers.AdamW(),
        "SparseCategoricalCrossentropy": keras.losses.SparseCategoricalCrossentropy(),
        "Accuracy": keras.metrics.SparseCategoricalAccuracy(),
        "EarlyStopping": keras.callbacks.EarlyStopping(),
        "ModelCheckpoint": keras.callbacks.ModelCheckpoint("x.keras"),
        "CSVLogger": keras.callbacks.CSVLogger("x.csv"),
    }
    # Where Keras runs on torch, its layers are torch's modules too.
    of_torch = {*dir(torch.nn.Module), "torch_params", "training"}
    silent = []
    for kind, instance in theirs.items():
        ours = MAKERS[kind]()
        for name in sorted({*dir(type(instance)), *vars(instance)} - of_torch - NO_EFFECT_IN_KERAS):
            if (
                not name.startswith("_")
                and not hasattr(ours, name)
                and not callable(getattr(type(instance), name, None))
            ):
                with contextlib.suppress(AttributeError):
                    setattr(ours, name, 1)
                    silent.append(f"{kind}.{name}")
    assert not silent


# Facts of Keras's objects, which do nothing there when they are set, or are classes' own.
NO_EFFECT_IN_KERAS = {
    "name", "built", "presets", "backbone_cls", "preprocessor_cls", "tokenizer_cls", "call_signature_parameters",
    "trainable", "config_file", "file_assets", "image_size", "audio_converter", "image_converter", "video_converter",
    "audio_converter_cls", "image_converter_cls", "video_converter_cls", "byte2unicode", "unicode2byte", "cache",
    "merge_ranks", "merge_ranks_lookup_default", "id_to_token_map", "token_to_id_map",
}  # fmt: skip


TOO_LARGE = [10**400, 10**5000, np.longdouble("1e4000")]


@pytest.mark.parametrize("value", TOO_LARGE, ids=["int", "int that Python does not write", "longdouble"])
@pytest.mark.parametrize(
    "take",
    [
        lambda value: optimizers.Adam(value),
        lambda value: optimizers.Adam(weight_decay=value),
        lambda value: optimizers.Adam(clipnorm=value),
        lambda value: optimizers.Adam(beta_1=value),
        lambda value: optimizers.Adam(ema_momentum=value, use_ema=True),
        lambda value: schedules.ExponentialDecay(value, 10, 0.5),
        lambda value: schedules.PiecewiseConstantDecay([1], [1.0, value]),
        lambda value: callbacks.EarlyStopping(min_delta=value),
        lambda value: callbacks.EarlyStopping(baseline=value),
        lambda value: callbacks.ReduceLROnPlateau(factor=value),
        lambda value: small_config(layer_norm_epsilon=value),
        lambda value: small_config(dropout=value),
        lambda value: small_config(lora_rank=2, lora_alpha=value),
        lambda value: small_config(lora_rank=value),
        lambda value: setattr(small_masked_lm(), "recommended_learning_rate", value),
        lambda value: MaskedLMPreprocessor(small_tokenizer(), mask_selection_rate=value),
        lambda value: small_classifier().fit(TEXTS, [0, 1] * 3, sample_weight=[value] * 6, verbose=0),
        lambda value: small_classifier().fit(TEXTS, [0, 1] * 3, class_weight={0: value}, verbose=0),
        lambda value: parse_size(value),
    ],
)
def test_numbers_that_no_float_holds_are_out_of_range(take, value):
    with pytest.raises(ValueError, match=r"(?s)must be .*(got|range of float64)|a number without a unit"):
        take(value)


def test_a_number_so_small_that_its_float_is_0_is_not_above_0():
    tiny = np.longdouble("1e-4900")
    with pytest.raises(ValueError, match="clipnorm must be None or positive"):
        optimizers.Adam(clipnorm=tiny)
    assert float(optimizers.Adam(np.longdouble("0.5")).learning_rate) == 0.5
    with pytest.raises(ValueError, match="max_shard_size must be a number of gigabytes"):
        parse_size("9" * 400 + "B")
