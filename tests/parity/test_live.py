"""Living models of transformers and KerasHub: those that are sound are silent, and a mistake in one is found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer
from small_presets import HF_SIZES
from transformers4 import UNEVEN as IDS
from transformers4 import ask, needs_transformers4

import pyroberta
from pyroberta.oracle import LiveReport, check_keras, check_transformers
from pyroberta.oracle.live.sides import padded

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
SHAPES: list[dict[str, Any]] = [
    {},
    {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 3, "intermediate_size": 1},
    {"num_hidden_layers": 3, "num_attention_heads": 3, "layer_norm_eps": 1e-12, "type_vocab_size": 2},
    {"tie_word_embeddings": False, "num_attention_heads": 12, "hidden_dropout_prob": 0.3},
]


def made(kind: str = "RobertaForMaskedLM", dtype: str = "float32", attention: str = "eager", **changes: Any) -> Any:
    """A model of transformers with parameters of some size, fresh and always the same."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind.partition('For')[0].removesuffix('Model')}Config")
    model = getattr(transformers, kind)(config(**{**HF_SIZES, **changes}, attn_implementation=attention))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.to(getattr(torch, dtype))


# --- sound models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["RobertaForMaskedLM", "RobertaModel", "RobertaForSequenceClassification"])
def test_a_sound_model_is_silent(kind: str, shape: dict[str, Any], dtype: str, attention: str) -> None:
    report = check_transformers(made(kind, dtype, attention, **shape), IDS)
    assert report.departures == [], str(report)
    assert report.precision == dtype
    layers = shape.get("num_hidden_layers", 2)
    assert f"d.layers.{layers - 1}.attention.query.output" in report.aligned.theirs
    assert f"gradients.layers.{layers - 1}.attention.query.kernel" in report.aligned.theirs
    is_eager = attention == "eager"
    assert ("layers.0.attention.probabilities.2" in report.aligned.theirs) == is_eager
    assert any("sdpa attention shows no probabilities" in remark for remark in report.remarks) != is_eager


@pytest.mark.parametrize("kind", ["XLMRobertaForMaskedLM", "CamembertForMaskedLM", "XLMRobertaModel"])
def test_relatives_with_the_same_arithmetic_are_silent(kind: str) -> None:
    assert check_transformers(made(kind), IDS).departures == []


def test_padding_on_the_left_and_other_attention_for_the_check_alone() -> None:
    model = made(attention="sdpa")
    report = check_transformers(model, IDS, padding_side="left", attn_implementation="eager")
    assert report.departures == []
    assert "layers.1.attention.probabilities.0" in report.aligned.theirs
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "groups"])
def test_a_step_of_torchs_optimizer_is_silent_and_taken_back(kind: str) -> None:
    import torch

    model = made()
    if kind == "groups":
        decays = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim == 1]
        optimizer: Any = torch.optim.AdamW([{"params": decays}, {"params": others, "weight_decay": 0.0}], 0.01)
    else:
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = check_transformers(model, IDS, optimizer=optimizer)
    assert report.departures == [], str(report)
    for name in ("updated", "slots.m", "slots.v"):
        assert f"{name}.layers.1.feed_forward.output.kernel" in report.aligned.theirs
    assert not optimizer.state
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_model_is_as_it_was() -> None:
    import torch

    model = made(attention="sdpa", hidden_dropout_prob=0.1)
    model.train()
    model.roberta.encoder.layer[0].eval()
    model.roberta.embeddings.LayerNorm.weight.requires_grad_(False)
    model.lm_head.dense.weight.grad = torch.ones_like(model.lm_head.dense.weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    report = check_transformers(model, IDS, attn_implementation="eager")
    assert report.departures == []
    assert "gradients.embeddings.norm.gamma" in report.aligned.theirs
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert not model.roberta.embeddings.LayerNorm.weight.requires_grad
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"lm_head.dense.weight"}
    assert model.lm_head.dense.weight.grad.eq(1.0).all()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


@needs_transformers4
def test_sound_models_of_transformers_4_are_silent() -> None:
    lines = ask("check").splitlines()
    assert len(lines) == 12
    for line in lines:
        compared, _, departures = line.split(maxsplit=2)
        assert departures == "[]"
        assert int(compared) > 90
    assert any(line.split()[1] != "0" for line in lines)


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "model"
    small_masked_lm(dtype="float32").save_to_preset(path, format="hf")
    return path


def test_texts_are_encoded_by_the_tokenizer_of_the_models_directory(directory: Path) -> None:
    import transformers

    model = transformers.RobertaForMaskedLM.from_pretrained(directory)
    report = check_transformers(model, TEXTS)
    assert report.departures == []
    assert report.golden["batch.starts"][-1] == sum(len(small_tokenizer().encode(text)) for text in TEXTS)
    for tokenizer in (small_tokenizer(), str(directory), transformers.AutoTokenizer.from_pretrained(directory)):
        again = check_transformers(model, TEXTS, tokenizer=tokenizer)
        assert np.array_equal(again.golden["batch.ids"], report.golden["batch.ids"])


def test_a_reference_is_held_to_its_parameters_too(directory: Path) -> None:
    import torch
    import transformers

    model = transformers.RobertaForMaskedLM.from_pretrained(directory)
    reference = pyroberta.MaskedLM.from_preset(directory)
    assert check_transformers(model, TEXTS, reference=reference).departures == []
    with torch.no_grad():
        model.roberta.encoder.layer[1].output.dense.bias += 0.01
    before = reference.optimizer
    optimizer = torch.optim.AdamW(model.parameters())
    (finding,) = check_transformers(model, TEXTS, reference=reference, optimizer=optimizer).departures
    assert reference.optimizer is before
    assert finding.name == "parameters.layers.1.feed_forward.output.bias"


# --- mistakes ---------------------------------------------------------------------------------------------------------


def other_activation(model: Any) -> None:
    from transformers.activations import ACT2FN

    model.roberta.encoder.layer[1].intermediate.intermediate_act_fn = ACT2FN["gelu_new"]


def other_epsilon(model: Any) -> None:
    model.roberta.encoder.layer[0].output.LayerNorm.eps = 1e-3


def other_positions(model: Any) -> None:
    embeddings = model.roberta.embeddings
    usual = embeddings.create_position_ids_from_input_ids
    embeddings.create_position_ids_from_input_ids = lambda *args, **kwargs: usual(*args, **kwargs) + 1


def no_mask(model: Any) -> None:
    model.roberta._create_attention_masks = lambda **_: (None, None)


def no_scale(model: Any) -> None:
    model.roberta.encoder.layer[1].attention.self.scaling = 1.0


def stale_decoder(model: Any) -> None:
    import torch

    weight = model.lm_head.decoder.weight.detach()
    model.lm_head.decoder.weight = torch.nn.Parameter(weight + 0.1 * torch.randn_like(weight))


def causal(model: Any) -> None:
    model.config.is_decoder = True


def no_token_type(model: Any) -> None:
    import torch

    model.roberta.embeddings.token_type_embeddings.forward = lambda ids: torch.zeros(*ids.shape, 12)


def louder_layer(model: Any) -> None:
    layer = model.roberta.encoder.layer[1]
    usual = layer.forward
    layer.forward = lambda *args, **kwargs: 1.1 * usual(*args, **kwargs)


def detached_weight(model: Any) -> None:
    import torch

    dense = model.roberta.encoder.layer[1].intermediate.dense
    dense.forward = lambda x: torch.nn.functional.linear(x, dense.weight.detach(), dense.bias)


def dropped_embeddings(model: Any) -> None:
    import torch

    model.roberta.embeddings.dropout.forward = lambda x: torch.nn.functional.dropout(x, 0.1)


def dropped_probabilities(model: Any) -> None:
    attention = model.roberta.encoder.layer[1].attention.self
    attention.dropout.p, usual = 0.1, attention.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        attention.training = True
        return usual(*args, **kwargs)

    attention.forward = forward


def detached_residual(model: Any) -> None:
    output = model.roberta.encoder.layer[0].attention.output
    usual = output.forward
    output.forward = lambda h, x: usual(h, x.detach())


@pytest.mark.parametrize(
    ("plant", "name", "says"),
    [
        (other_activation, "layers.1.feed_forward.activation", "GELU by tanh"),
        (other_epsilon, "layers.0.feed_forward.norm.output", "epsilon is 0.001"),
        (other_positions, "embeddings.of_positions", "positions begin 1 row too late"),
        (no_mask, "layers.0.attention.probabilities.0", "queries attend to padding"),
        (no_scale, "layers.1.attention.probabilities.0", "not divided by the root of D"),
        (stale_decoder, "loss.logits", "not the token embedding"),
        (causal, "layers.0.attention.probabilities.0", "causal mask"),
        (no_token_type, "embeddings.of_types", "the token type's row is dropped"),
        (detached_weight, "gradients.layers.1.feed_forward.intermediate.kernel", "it is zero"),
        (dropped_embeddings, "embeddings.dropout.output", "dropout is on, with the rate 0.1"),
        (dropped_probabilities, "layers.1.attention.probabilities.0", "dropout is on, with the rate 0.1"),
        (louder_layer, "layers.1.feed_forward.norm.output", "1.1 times what it should be"),
        (detached_residual, "d.embeddings.dropout.output", "no gradient goes through the residual"),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_planted_mistake_is_the_first_that_departs(plant: Callable[[Any], None], name: str, says: str) -> None:
    model = made()
    plant(model)
    report = check_transformers(model, IDS)
    first = report.departures[0]
    assert first.name == name, str(report)
    assert says in str(first)
    if plant is no_mask:  # as is seen where attention is fused, too
        model.config._attn_implementation = "sdpa"
        fused = check_transformers(model, IDS).departures[0]
        assert (fused.name, says in fused.cause) == ("layers.0.attention.context", True)


def test_of_two_modules_that_should_give_the_same_the_outer_one_counts() -> None:
    model = made()
    louder_layer(model)
    remarks = check_transformers(model, IDS).remarks
    assert any("roberta.encoder.layer.1 should be equal, but differ" in remark for remark in remarks)


def test_a_config_of_another_arithmetic_is_compared_with_robertas() -> None:
    report = check_transformers(made(hidden_act="gelu_new"), IDS)
    assert "GELU by tanh" in report.departures[0].cause
    assert any("config.hidden_act is 'gelu_new'" in remark for remark in report.remarks)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_torch_adds_up_a_norms_gradients_in_bfloat16(attention: str) -> None:
    """As docs/oracle.md says; all else of a model in bfloat16 is within its bounds."""
    model = made(dtype="bfloat16", attention=attention, hidden_size=64, intermediate_size=96)
    rng = np.random.default_rng(0)
    report = check_transformers(model, [rng.integers(2, 31, length).tolist() for length in [5, 12, 15] * 8])
    assert report.precision == "mixed_bfloat16"
    names = [finding.name for finding in report.findings if finding.departs]
    assert names
    assert all(re.search(r"gradients\..*norm\.(gamma|beta)$|gradients\.embeddings\.position$", name) for name in names)


def test_a_classifier_reads_padding_on_the_left() -> None:
    report = check_transformers(made("RobertaForSequenceClassification"), IDS, padding_side="left")
    assert report.departures[0].name == "head.dense.output"


def test_a_pad_token_within_a_text_has_no_position_there() -> None:
    report = check_transformers(made(), [[0, 5, 1, 9, 2], [0, 7, 2]])
    assert report.departures[0].name == "embeddings.of_positions"


def test_the_loss_of_transformers_is_the_traces() -> None:
    import torch

    model = made()
    golden = check_transformers(model, IDS).golden
    batch = padded(golden)
    arguments = {"input_ids": batch.ids, "attention_mask": batch.mask.astype(int), "labels": batch.labels}
    with torch.no_grad():
        loss = model.eval()(**{name: torch.tensor(array) for name, array in arguments.items()}).loss
    assert float(loss) == pytest.approx(float(golden["loss.share"]), rel=1e-6)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_what_is_no_roberta_is_refused() -> None:
    import torch
    import transformers

    sizes = {
        "vocab_size": 9,
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 4,
    }
    bert = transformers.BertModel(transformers.BertConfig(**sizes))
    with pytest.raises(ValueError, match="BertModel is a 'bert' model, BERT, whose segments"):
        check_transformers(bert, IDS)
    with pytest.raises(TypeError, match=r"should be a model of transformers.*got a Linear"):
        check_transformers(torch.nn.Linear(2, 2), IDS)
    with pytest.raises(ValueError, match=r"a head that pyroberta lacks.*model\.roberta"):
        check_transformers(made("RobertaForTokenClassification"), IDS)
    with pytest.raises(
        ValueError, match="the reference should have the model's head, 'text_classifier'; it has 'masked_lm'"
    ):
        check_transformers(made("RobertaForSequenceClassification"), IDS, reference=small_masked_lm())
    with pytest.raises(ValueError, match="the model is in float16, for which there are no bounds"):
        check_transformers(made(dtype="float16"), IDS)
    with pytest.raises(TypeError, match=r"RobertaMaskedLM, RobertaTextClassifier, RobertaBackbone, got a Linear"):
        check_keras(torch.nn.Linear(2, 2), IDS)


def test_texts_without_a_tokenizer_and_with_another_models_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no tokenizer for the texts: give tokenizer="):
        check_transformers(made(), TEXTS)
    with pytest.raises(ValueError, match="the tokenizer has 300 tokens, but the model's token embedding has only 31"):
        check_transformers(made(), TEXTS, tokenizer=small_tokenizer())
    with pytest.raises(TypeError, match="got an int"):
        check_transformers(made(), TEXTS, tokenizer=5)


def test_optimizers_that_pyroberta_lacks_are_refused() -> None:
    import torch

    model = made()
    for optimizer, words in (
        (torch.optim.SGD(model.parameters(), 0.1), "Adam or AdamW, got a SGD"),
        (torch.optim.Adam(model.parameters(), 0.1, weight_decay=0.1), "adds weight_decay to the gradient"),
        (torch.optim.Adam(model.parameters(), 0.1, amsgrad=True), "amsgrad"),
    ):
        with pytest.raises(ValueError, match=words):
            check_transformers(model, IDS, optimizer=optimizer)


# --- KerasHub ---------------------------------------------------------------------------------------------------------

# argv: where the reports go. Keras reads its backend once, so that each has a process of its own.
KERAS = """
import json, sys
import numpy as np, keras, keras_hub
from pyroberta import MaskedLM
from pyroberta.oracle import check_keras

IDS = [[0, 5, 9, 4, 2], [0, 7, 7, 8, 9, 10, 11, 12, 2], [0, 6, 2]]
found = {}

def made(kind="RobertaMaskedLM", dtype="float32", dropout=0.1, **sizes):
    keras.utils.set_random_seed(3)
    backbone = keras_hub.models.RobertaBackbone(**{
        "vocabulary_size": 30, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24,
        "max_sequence_length": 20, "dropout": dropout, "dtype": dtype, **sizes,
    })
    more = {"num_classes": 3} if kind == "RobertaTextClassifier" else {}
    model = backbone if kind == "RobertaBackbone" else getattr(keras_hub.models, kind)(backbone, **more)
    for weight in model.weights:
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, dtype="float32"))
    return model

def note(name, model, **options):
    before = [keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")).copy() for weight in model.weights]
    report = check_keras(model, IDS, **options)
    after = [keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")) for weight in model.weights]
    is_same = all(np.array_equal(a, b) for a, b in zip(before, after))
    layers = model._flatten_layers()
    is_same = is_same and not any("call" in vars(layer) for layer in layers)
    is_same = is_same and all(getattr(weight.value, "grad", None) is None for weight in model.weights)
    found[name] = {**report.to_dict(), "is_same": is_same, "theirs": list(report.aligned.theirs)}

for kind in ("RobertaMaskedLM", "RobertaTextClassifier", "RobertaBackbone"):
    note(kind, made(kind))
    note(f"{kind} fused", made(kind, dropout=0.0, num_heads=4, num_layers=1, intermediate_dim=1))
note("mixed_bfloat16", made(dtype="mixed_bfloat16"))
note("left", made(), padding_side="left")

model = made()
dense = model.backbone.transformer_layers[1]._feedforward_intermediate_dense
dense.activation = lambda x: keras.activations.gelu(x, approximate=True)
note("activation", model)
model = made()
model.backbone.transformer_layers[0]._feedforward_layer_norm.epsilon = 1e-3
note("epsilon", model)
model = made()
position = model.backbone.embeddings.position_embedding
position_call = position.call
position.call = lambda x, *args, **kwargs: position_call(x, start_index=1)
note("position", model)
model = made()
dropout = model.backbone.embeddings_dropout
dropout_call = dropout.call
dropout.call = lambda x, *args, **kwargs: dropout_call(x, training=True)
note("dropout", model)
note("float64", made(dtype="float64"))
try:  # the reader of a directory of transformers
    import sentencepiece
except ImportError:
    sentencepiece = None
if sentencepiece and sys.argv[2:]:
    backbone = keras_hub.models.RobertaBackbone.from_preset(sys.argv[2])
    note("converted", backbone, reference=MaskedLM.from_preset(sys.argv[2], preprocessor=None))
json.dump(found, open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module", params=["torch", "jax"])
def keras_reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("keras")
    file, theirs = folder / "reports.json", folder / "transformers"
    made(layer_norm_eps=1e-6).save_pretrained(theirs)
    command = [sys.executable, "-W", "ignore", "-c", KERAS, str(file), str(theirs)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": request.param})
    if "No module named 'jax'" in done.stderr:
        pytest.skip("jax isn't installed")
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(file.read_text())
    return {**found, "backend": request.param}


def test_a_sound_model_of_keras_hub_is_silent_and_stays_as_it_was(keras_reports: dict[str, Any]) -> None:
    for name in [name for name in keras_reports if name.startswith("Roberta")]:
        report = keras_reports[name]
        assert report["departures"] == [], name
        assert report["is_same"], name
        assert report["missing"] == [], name
        has_gradients = "gradients.layers.0.attention.query.kernel" in report["theirs"]
        assert has_gradients == (keras_reports["backend"] == "torch")
        assert ("layers.0.attention.probabilities.0" in report["theirs"]) != name.endswith("fused")
    assert keras_reports["mixed_bfloat16"]["departures"] == []
    assert keras_reports["mixed_bfloat16"]["precision"] == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("case", "name", "says"),
    [
        ("activation", "layers.1.feed_forward.activation", "GELU by tanh"),
        ("epsilon", "layers.0.feed_forward.norm.output", "epsilon is 0.001"),
        ("left", "embeddings.of_positions", "padding before a sequence, up to 11 columns"),  # keras-hub's own rule
        ("position", "embeddings.of_positions", "positions begin 1 row too late"),
        ("dropout", "embeddings.dropout.output", "dropout is on, with the rate 0.1"),
    ],
)
def test_a_mistake_in_keras_hub_is_found(keras_reports: dict[str, Any], case: str, name: str, says: str) -> None:
    first = keras_reports[case]["departures"][0]
    assert (first["name"], says in first["cause"]) == (name, True), first
    forward = [one["name"] for one in keras_reports[case]["departures"] if not one["name"].startswith(("d.", "grad"))]
    assert forward == [name]  # what follows is judged by what it was given


def test_keras_computes_in_float32_where_its_dtype_is_float64(keras_reports: dict[str, Any]) -> None:
    """As docs/oracle.md says: its `result_type` of two float64 is float32. JAX has no float64 unless told."""
    report = keras_reports["float64"]
    if keras_reports["backend"] == "jax":
        assert (report["precision"], report["departures"]) == ("float32", [])
        return
    first = report["departures"][0]
    assert first["name"] == "embeddings.norm.output"
    assert 1e-9 < first["relative"] < 1e-6


def test_keras_hub_reads_neither_the_token_type_nor_the_epsilon(keras_reports: dict[str, Any]) -> None:
    if "converted" not in keras_reports:
        pytest.skip("sentencepiece isn't installed, which keras-hub's reader imports")
    found = {finding["name"]: finding for finding in keras_reports["converted"]["departures"]}
    assert found["parameters.embeddings.position"]["looks"] == "each row is off by the same vector"
    assert "epsilon is 1e-05" in " ".join(
        [found["embeddings.norm.output"]["cause"], *found["embeddings.norm.output"]["others"]]
    )


def test_reports_are_of_one_kind() -> None:
    assert isinstance(check_transformers(made(), IDS), LiveReport)
