"""What every head has, and which one a config names."""

import pickle
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from small_models import gradients_of, random_batch, random_params, small_config

from pyroberta.model.batch import pack
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.heads import HEADS, has_classes, head_of, title
from pyroberta.model.initial_values import initialise
from pyroberta.model.layers import norm, norm_back
from pyroberta.model.model import model_backward, model_forward, model_logits
from pyroberta.model.parameters import SIZES, Arrays, check_room, is_backbone, shapes
from pyroberta.ops import REFERENCE, Key
from pyroberta.oracle.gradcheck import check_backward
from pyroberta.presets import fairseq, hf, kerashub
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.tasks.task import Task
from pyroberta.training.losses import SparseCategoricalCrossentropy


def config_of(name: str, **changes) -> RobertaConfig:
    classes = 3 if has_classes(HEADS[name]) else None
    return small_config(head_name=name, num_classes=classes, **changes)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_heads_parameters_follow_the_encoders_and_hold_its_output(name, tied):
    config = config_of(name, tie_embeddings=tied)
    head, layout = head_of(config), shapes(config)
    head_layout = head.shapes(config)
    assert list(head_layout) == [parameter for parameter in layout if not is_backbone(parameter)]
    outputs = config.num_classes or config.vocabulary_size
    assert layout[head.output_table(config)] == (outputs, config.hidden_dim)
    assert head_layout["head.bias"] == (outputs,)
    for parameter in head_layout.keys() & head.SIZES.keys():
        size = getattr(config, head.SIZES[parameter])
        assert (config.hidden_dim if size is None else size) in head_layout[parameter]
    assert not head.SIZES.keys() & SIZES.keys()


def test_each_head_looks_at_rows_of_its_own():
    batch = replace(pack([np.array([0, 5, 2]), np.array([0, 2])]), target_rows=np.array([1]))
    assert HEADS["masked_lm"].target_rows(batch).tolist() == [1]
    assert HEADS["text_classifier"].target_rows(batch).tolist() == [0, 3]


def test_a_config_without_a_heads_name_is_a_masked_lms_or_a_text_classifiers():
    config = small_config()
    classifier = replace(config, num_classes=4)
    assert (config.head, title(config)) == ("masked_lm", "masked-LM head")
    assert (classifier.head, title(classifier)) == ("text_classifier", "head for 4 classes")
    assert replace(classifier, num_classes=None) == config


@pytest.mark.parametrize("name", HEADS)
def test_one_model_has_one_config(name):
    config = config_of(name)
    assert config.head == name
    again = [replace(config, head_name=name), pickle.loads(pickle.dumps(config)), replace(config)]
    assert again == [config] * 3


def test_a_pickle_from_before_heads_had_names_still_says_which_head_it_has():
    for config in (small_config(), small_config(num_classes=3)):
        vars(config).pop("head_name")
        assert pickle.loads(pickle.dumps(config)).head == ("text_classifier" if config.num_classes else "masked_lm")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"head_name": "classifier"}, "head_name must be one of 'masked_lm', 'text_classifier'.*, got 'classifier'"),
        ({"head_name": ["masked_lm"]}, r"head_name must be one of .*, got \['masked_lm'\]"),
        ({"head_name": "masked_lm", "num_classes": 3}, "the head 'masked_lm' has no classes, got num_classes 3"),
        ({"head_name": "text_classifier"}, "the head 'text_classifier' needs num_classes, got None"),
    ],
)
def test_a_head_and_a_number_of_classes_that_do_not_go_together_are_refused(fields, error):
    with pytest.raises(ValueError, match=error):
        small_config(**fields)


def test_a_head_too_large_names_the_field_that_asks_for_it():
    for field, config in (
        ("num_classes", small_config(num_classes=2**60)),
        ("vocabulary_size", small_config(tie_embeddings=False, vocabulary_size=2**60)),
    ):
        with pytest.raises(ValueError, match=f"^{field} {2**60} is too large"):
            check_room(config, np.float32)


def test_every_head_has_a_task_and_a_place_in_files():
    assert list(HEADS) == list(HEAD_FILES) == list(Task.of_head)
    for name, task in Task.of_head.items():
        assert task.head == name
        assert HEAD_FILES[name].preprocessor is task.preprocessor_kind
        assert HEAD_FILES[name].card.task == task.__name__


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_heads_tensors_are_told_from_those_of_other_heads(name, tied):
    config = config_of(name, tie_embeddings=tied)
    stored_names = [theirs for ours, (theirs, _) in hf.renaming(config).items() if not is_backbone(ours)]
    assert len(set(stored_names)) == len(head_of(config).shapes(config))
    for other, files in HEAD_FILES.items():
        assert all(bool(files.hf_tensors.fullmatch(theirs)) is (other == name) for theirs in stored_names)


@pytest.mark.parametrize("name", HEADS)
def test_a_format_has_all_of_a_head_or_nothing(name):
    config = config_of(name)
    parameters, files = set(head_of(config).shapes(config)), HEAD_FILES[name]
    for renaming, stored_names in (
        (kerashub.renaming(config), files.keras_names),
        (fairseq.renaming(config), files.fairseq_names),
    ):
        assert {ours for ours in renaming if not is_backbone(ours)} == (parameters if stored_names else set())
    assert bool(files.keras_classes) is bool(files.keras_names)


def test_a_users_subclass_does_not_take_the_place_of_a_heads_task():
    of_head = dict(Task.of_head)

    class Mine(of_head["masked_lm"]):
        head = "masked_lm"

    assert Task.of_head == of_head
    assert type(Task.from_preset("roberta_tiny_en")) is of_head["masked_lm"]


class Tagger:
    """A head that differs in everything from those that there are: a class for every second row of a batch."""

    TITLE = "head that tags with {num_classes} tags"
    SIZES: ClassVar[dict[str, str]] = {"head.tags": "num_classes", "head.bias": "num_classes"}

    @staticmethod
    def shapes(config):
        C = config.hidden_dim
        outputs = {"head.tags": (config.num_classes, C), "head.bias": (config.num_classes,)}
        return {"head.scale.gamma": (C,), "head.scale.beta": (C,), **outputs}

    @staticmethod
    def output_table(config):
        return "head.tags"

    @staticmethod
    def target_rows(batch):
        return np.arange(0, batch.num_tokens, 2)

    @staticmethod
    def forward(ops, params, config, x, batch, key=None):
        return norm(ops, params, "head.scale", x, config.layer_norm_epsilon)

    @staticmethod
    def backward(ops, grads, dh, cache):
        return norm_back(ops, grads, "head.scale", dh, cache)


def test_a_head_that_differs_in_everything_needs_its_line_alone(monkeypatch):
    """Shapes, initial values, forward, backward, logits, updates: nobody asks for the number of classes instead."""
    monkeypatch.setitem(HEADS, "tagger", Tagger)
    config = small_config(head_name="tagger", num_classes=4, dropout=0.1)
    params = random_params(config, 0)
    assert [name for name in params if name.startswith("head.")] == list(Tagger.shapes(config))
    fresh = Arrays(shapes(config))
    initialise(fresh, config)
    assert (fresh["head.scale.gamma"] == 1).all()
    assert fresh["head.tags"].any()
    assert not fresh["head.bias"].any()

    batch = random_batch(config, [3, 4], 1)
    rows = Tagger.target_rows(batch)
    batch = replace(batch, target_rows=rows, labels=rows % 4, weights=np.ones(len(rows)))
    assert head_of(config).target_rows(batch).tolist() == rows.tolist()

    def forward(flat):
        moved = Arrays(shapes(config), np.float64)
        moved.flat[:] = flat
        (losses, _), cache = model_forward(REFERENCE, moved, config, batch, Key.of_update(1, 2), -1)
        return losses, (moved, cache)

    def backward(dlosses, held):
        moved, cache = held
        grads = Gradients(moved.zeros_like(), set(moved))
        model_backward(REFERENCE, grads, dlosses, cache)
        return grads.sums.flat

    assert check_backward(forward, backward, [params.flat]).error < 1e-9
    logits = model_logits(REFERENCE, params, config, batch, rows)
    (losses, predicted), _ = model_forward(REFERENCE, params, config, batch)
    assert logits.shape == (len(rows), 4)
    assert predicted.tolist() == logits.argmax(axis=1).tolist()
    np.testing.assert_allclose(
        losses, np.log(np.exp(logits).sum(1)) - logits[np.arange(len(rows)), batch.labels], rtol=1e-12
    )
    assert title(config) == "head that tags with 4 tags"
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    sums, _ = gradients_of(params, config, [batch], loss)
    assert sums["head.tags"].any()
    assert sums["layers.0.attention.query.kernel"].any()
