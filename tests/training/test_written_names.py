"""The names under which Keras's `serialize` writes optimizers, schedules, losses and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from small_models import small_tokenizer

from pyroberta import Backbone, MaskedLMPreprocessor, Tokenizer, losses, metrics, optimizers, schedules

SCHEDULE = {"initial_learning_rate": 0.5, "decay_steps": 10}
# What is made; the function that makes it; its name and its config.
KINDS: dict[str, tuple[Callable[[Any], Any], str, Mapping[str, Any]]] = {
    "optimizers": (optimizers.get, "AdamW", {"learning_rate": 0.5}),
    "losses": (losses.get, "SparseCategoricalCrossentropy", {"from_logits": True}),
    "metrics": (metrics.get, "SparseCategoricalAccuracy", {"name": "mine"}),
    "optimizers.schedules": (schedules.get, "CosineDecay", SCHEDULE),
}
FUNCTION = {"module": "builtins", "class_name": "function", "registered_name": "function"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_in_which_keras_writes_a_class_is_read(kind: str):
    get, name, config = KINDS[kind]
    plain = get({"class_name": name, "config": config})
    for written in (
        {"module": f"keras.{kind}", "class_name": name, "config": config, "registered_name": None},
        {"module": "keras_hub.src", "class_name": name, "config": config, "registered_name": f"keras_hub>{name}"},
        {"class_name": name, "config": config, "registered_name": f"keras>{name}"},
        *({"class_name": f"{package}>{name}", "config": config} for package in ("keras", "keras_hub", "keras_nlp")),
    ):
        found = get(written)
        assert type(found) is type(plain)
        assert found.get_config() == plain.get_config()


@pytest.mark.parametrize("kind", ["optimizers", "losses", "metrics"])
def test_a_name_may_have_keras_package_before_it(kind: str):
    get, name, _ = KINDS[kind]
    assert type(get(f"keras>{name}")) is type(get(name))
    with pytest.raises(ValueError, match=f"got 'mine>{name}'"):
        get(f"mine>{name}")


@pytest.mark.parametrize(
    "other",
    [
        {"module": None, "registered_name": "mine>{}"},
        {"module": None, "registered_name": "{}"},  # a class that is not registered, as Keras writes it
        {"module": "mine.models", "registered_name": None},
        {"module": "kerasy", "registered_name": "kerasy>{}"},
        {"module": "pyroberta.evil", "registered_name": None},
        {"module": "", "registered_name": None},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_users_class_of_the_same_name_is_refused(kind: str, other: dict[str, Any]):
    get, name, config = KINDS[kind]
    registered = other["registered_name"]
    written = other | {"registered_name": registered and registered.format(name), "class_name": name, "config": config}
    with pytest.raises(ValueError, match=rf"the \w+ '[\w>]*{name}' is a class of your own"):
        get(written)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("module", "registered"),
    [("keras.{}", "mine>{}"), ("keras.{}", "keras>Other"), ("keras.{}", "Other"), (None, "keras>Other"), ("keras", 7)],
)
def test_names_that_contradict_each_other_are_refused(kind: str, module: str | None, registered: Any):
    get, name, config = KINDS[kind]
    registered = registered.format(name) if isinstance(registered, str) else registered
    written = {"module": module and module.format(kind), "class_name": name, "registered_name": registered}
    with pytest.raises(ValueError, match=rf"the dict of the \w+ contradicts itself: class_name is '{name}'"):
        get({**written, "config": config})
    assert get({**written, "config": config, "registered_name": name, "module": f"keras.{kind}"}) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_beside_the_config_is_refused(kind: str):
    get, name, config = KINDS[kind]
    written = {"module": f"keras.{kind}", "class_name": name, "config": config, "registered_name": None}
    assert get({**written, "build_config": {"input_shape": [1]}, "shared_object_id": 3}) is not None
    with pytest.raises(
        ValueError, match=r"the dict of the \w+ has the key 'name', and may have module, class_name, con"
    ):
        get({**written, "name": "mine"})
    with pytest.raises((TypeError, ValueError), match="self"):
        get({**written, "config": {"self": 1}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"registered_name": "keras_hub>RobertaBackbone"}, "the dict of the tokenizer contradicts itself"),
        ({"registered_name": "mine>RobertaTokenizer"}, "the dict of the tokenizer contradicts itself"),
        (
            {"module": "mine", "registered_name": "mine>RobertaTokenizer"},
            "is a class of your own, of the module 'mine'",
        ),
        ({"vocabulary": {}}, "the dict of the tokenizer has the key 'vocabulary'"),
    ],
)
def test_an_object_within_a_config_is_read_by_the_same_rules(change: dict[str, Any], message: str):
    config = MaskedLMPreprocessor(small_tokenizer(), 40).get_config()
    assert MaskedLMPreprocessor.from_config(config).sequence_length == 40
    with pytest.raises(ValueError, match=message):
        MaskedLMPreprocessor.from_config({**config, "tokenizer": {**config["tokenizer"], **change}})


@pytest.mark.parametrize("kind", [Backbone, MaskedLMPreprocessor, Tokenizer, metrics.Accuracy, optimizers.Adam])
def test_self_is_no_argument_of_a_config(kind: Any):
    with pytest.raises(TypeError, match=f"{kind.__name__} has no argument 'self'"):
        kind.from_config({"self": 1})


def test_functions_of_keras_are_read_by_their_names():
    loss = losses.get({**FUNCTION, "config": "sparse_categorical_crossentropy"})
    assert loss.get_config() == losses.get("sparse_categorical_crossentropy").get_config()
    metric = metrics.get({**FUNCTION, "config": "sparse_categorical_accuracy"})
    assert type(metric) is metrics.SparseCategoricalAccuracy
    for get in (losses.get, metrics.get):
        with pytest.raises(ValueError, match="got 'hinge'"):
            get({**FUNCTION, "config": "hinge"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_of_another_kind_or_of_no_text_is_refused(kind: str):
    get, name, config = KINDS[kind]
    written = {"class_name": name, "config": config, "registered_name": None}
    for other in ("optimizers", "losses", "metrics", "optimizers.schedules"):
        for module in (f"keras.{other}", f"keras.src.{other}.some"):
            if kind.split(".")[-1] in other.split("."):
                assert get({**written, "module": module}) is not None
            else:
                with pytest.raises(ValueError, match=rf"contradicts itself: class_name is '{name}', and module"):
                    get({**written, "module": module})
    assert get({**written, "module": type(get(written)).__module__}) is not None
    for module in (3, ["keras"], b"keras"):
        with pytest.raises(ValueError, match=r"has the module .*: it should be a text, such as 'keras', or None"):
            get({**written, "module": module})


@pytest.mark.parametrize(
    "change", [{"module": "my.losses"}, {"registered_name": "mine>x"}, {"module": "my.losses", "registered_name": "x"}]
)
def test_a_users_function_of_the_same_name_is_refused(change: dict[str, Any]):
    for get, name in ((losses.get, "sparse_categorical_crossentropy"), (metrics.get, "sparse_categorical_accuracy")):
        with pytest.raises(ValueError, match=f"'{name}' is a function of your own, of the module"):
            get({**FUNCTION, "config": name, **change})
