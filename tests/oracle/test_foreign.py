"""Other implementations' tensors, whatever their names and layouts, come out as the trace has them."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_config
from small_pickles import number, older, state, tensor, text, zipped
from traces import TRACES, traced

from pyroberta.formats import safetensors_io
from pyroberta.formats.budget import OverBudget
from pyroberta.model.parameters import shapes
from pyroberta.oracle.compare import compare
from pyroberta.oracle.foreign import align, names_of, read_tensors
from pyroberta.oracle.golden import Entry, Trace, read_trace
from pyroberta.oracle.names import FORMATS, Names
from pyroberta.presets import fairseq, hf, kerashub

ROOT = Path(__file__).resolve().parents[2]
QUERY, PROBABILITIES = "layers.0.attention.query.output", "layers.0.attention.probabilities"
NORM, LOGITS, MEAN = "head.norm.output", "loss.logits", "layers.0.attention.norm.mean"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trace_name", "format", "theirs"),
    [
        ("layers.3.attention.query.output", "hf", "roberta.encoder.layer.3.attention.self.query"),
        ("layers.3.attention.norm.output", "hf", "roberta.encoder.layer.3.attention.output.LayerNorm"),
        ("layers.3.feed_forward.intermediate", "hf", "roberta.encoder.layer.3.intermediate.dense"),
        ("layers.3.feed_forward.activation", "hf", "roberta.encoder.layer.3.intermediate"),
        ("layers.3.feed_forward.output", "hf", "roberta.encoder.layer.3.output.dense"),
        ("layers.3.feed_forward.norm.output", "hf", "roberta.encoder.layer.3.output.LayerNorm"),
        ("embeddings.norm.output", "hf", "roberta.embeddings.LayerNorm"),
        ("head.dense.output", "hf", "lm_head.dense"),
        ("head.norm.output", "hf", "lm_head.layer_norm"),
        ("loss.logits", "hf", "lm_head"),
        ("layers.3.attention.dropped.1", "hf", "attentions.3"),
        ("d.layers.3.attention.query.output", "hf", "roberta.encoder.layer.3.attention.self.query.grad"),
        ("gradients.layers.3.attention.key.bias", "hf", "roberta.encoder.layer.3.attention.self.key.bias.grad"),
        ("slots.v.head.bias", "hf", "exp_avg_sq.lm_head.bias"),
        ("step_2.updated.head.bias", "hf", "step_2.updated.lm_head.bias"),
        ("layers.3.attention.query.output", "fairseq", "encoder.sentence_encoder.layers.3.self_attn.q_proj"),
        ("layers.3.feed_forward.intermediate", "fairseq", "encoder.sentence_encoder.layers.3.fc1"),
        ("layers.3.feed_forward.norm.output", "fairseq", "encoder.sentence_encoder.layers.3.final_layer_norm"),
        ("layers.0.attention.output.output", "keras", "transformer_layer_0/self_attention_layer/attention_output"),
        ("layers.3.feed_forward.activation", "keras", "transformer_layer_3/feedforward_intermediate_dense"),
        ("parameters.head.bias", "keras", "mlm_head/output_bias"),
    ],
)
def test_a_tensor_has_these_names(trace_name: str, format: str, theirs: str) -> None:
    assert names_of(trace_name)[format] == theirs


@pytest.mark.parametrize("kind", ["masked_lm", "untied", "classifier", "lora"])
def test_every_name_that_is_given_is_read_again(kind: str) -> None:
    golden = TRACES[kind]
    head = "text_classifier" if golden.settings["config"]["num_classes"] else "masked_lm"
    reader = Names(2, head, untied="parameters.head.decoder" in golden)
    named = {name: names_of(name, head) for name in golden}
    assert sum(map(bool, named.values())) > 100
    for name, theirs in named.items():
        for format, one in theirs.items():
            if name.endswith("head.bias") and (kind, format) == ("untied", "hf"):
                one = one.replace("lm_head.bias", "lm_head.decoder.bias")  # the one that counts
            found = [match.name for match in reader.read(one) if match.format == format]
            assert re.sub(r"(dropped|probabilities)\.\d$", r"\1", name) in found, (name, one)
    assert names_of("bound.layers.0.attention.query.output") == {}


@pytest.mark.parametrize(
    ("spelled", "trace_name"),
    [
        ("module.roberta.encoder.layer.1.output.dense.weight", "parameters.layers.1.feed_forward.output.kernel"),
        ("state_dict.module.lm_head.bias", "parameters.head.bias"),
        ("_orig_mod.roberta.embeddings.LayerNorm.gamma", "parameters.embeddings.norm.gamma"),
        ("model.roberta.encoder._checkpoint_wrapped_module.layer.0.output", "layers.0.feed_forward.norm.output"),
        ("encoder.layer.1.attention.self.value", "layers.1.attention.value.output"),
        ("last_hidden_state", "layers.1.feed_forward.norm.output"),
        ("hidden_states.1", "layers.0.feed_forward.norm.output"),
        ("lm_head.decoder.weight", "parameters.embeddings.token"),
        ("decoder.sentence_encoder.layers.0.fc2.bias", "parameters.layers.0.feed_forward.output.bias"),
        ("decoder.sentence_encoder.emb_layer_norm.weight", "parameters.embeddings.norm.gamma"),
        ("layers/transformer_encoder/_feedforward_layer_norm/vars/1", "parameters.layers.0.feed_forward.norm.beta"),
        ("transformer_encoder_1/_self_attention_layer/key_dense/vars/1", "parameters.layers.1.attention.key.bias"),
        ("transformer_layer_0/self_attention_layer/query/kernel:0", "parameters.layers.0.attention.query.kernel"),
        ("encoder.sentence_encoder.layers.1.self_attn.in_proj_bias", "parameters.layers.1.attention.qkv.bias"),
        ("grad.roberta.encoder.layer.0", "d.layers.0.feed_forward.norm.output"),
        ("lm_head.bias.exp_avg", "slots.m.head.bias"),
    ],
)  # fmt: skip
def test_other_spellings(spelled: str, trace_name: str) -> None:
    assert trace_name in [match.name for match in Names(2).read(spelled)]


@pytest.mark.parametrize(
    "name", ["", "x", "roberta", "layer.9", "roberta.encoder.layer.2.output", "model.model", "grad."]
)
def test_other_names_are_unknown(name: str) -> None:
    assert [match for match in Names(2).read(name) if match.format != "hf" or name != "roberta"] == []


def test_the_page_has_the_names() -> None:
    page = (ROOT / "docs" / "oracle.md").read_text("utf-8")
    rows = re.findall(r"^\| `([^`|]+)` \| (.*?) \| (.*?) \| (.*?) \|$", page, flags=re.MULTILINE)
    assert len(rows) > 20
    for name, *theirs in rows:
        found = names_of(name.replace("#", "3"))
        wanted = {
            format: one[1:-1].replace("#", "3") for format, one in zip(FORMATS, theirs, strict=True) if one != "–"
        }
        assert found == wanted, name


# --- layouts ----------------------------------------------------------------------------------------------------------


def golden_of(lengths: list[int], H: int = 2, D: int = 3, V: int = 11, seed: int = 0) -> Trace:
    """Random numbers in the shapes of a trace; every other row is a target."""
    rng = np.random.default_rng(seed)
    N, C = sum(lengths), H * D
    golden = Trace()
    golden.settings["config"] = {"num_layers": 1, "num_heads": H, "hidden_dim": C, "intermediate_dim": 4}
    golden.settings["config"] |= {"vocabulary_size": V, "max_sequence_length": 20}
    targets = np.arange(0, N, 2)
    golden.add("batch.starts", np.cumsum([0, *lengths]), Entry())
    golden.add("batch.target_rows", targets, Entry())
    golden.add("batch.ids", rng.integers(3, V, N), Entry())
    for name, shape in [
        (QUERY, (N, C)), (MEAN, (N,)), (f"d.{QUERY}", (N, C)), (NORM, (len(targets), C)), (LOGITS, (len(targets), V)),
        *((f"{PROBABILITIES}.{b}", (H, S, S)) for b, S in enumerate(lengths)),
        *((f"parameters.{name}", shape) for name, shape in shapes(small_config(
            vocabulary_size=V, num_layers=1, num_heads=H, hidden_dim=C, intermediate_dim=4)).items()),
        *((f"layers.0.attention.{of}.output", (N, C)) for of in ("key", "value")),
    ]:  # fmt: skip
        golden.add(name, rng.standard_normal(shape), Entry())
    return golden


def padded(x: np.ndarray, lengths: list[int], S: int, side: str) -> np.ndarray:
    """(N, …) -> (B, S, …), with noise where the padding is."""
    found = np.random.default_rng(1).standard_normal((len(lengths), S, *x.shape[1:]))
    for b, part in enumerate(np.split(x, np.cumsum(lengths)[:-1])):
        found[b, S - len(part) if side == "left" else 0 :][: len(part)] = part
    return found


def mask_of(lengths: list[int], S: int, side: str) -> np.ndarray:
    mask = padded(np.ones(sum(lengths)), lengths, S, side) == 1
    return mask.astype(np.int64)


Layout = Callable[[np.ndarray], np.ndarray]


def in_heads(x: np.ndarray, H: int) -> np.ndarray:
    return x.reshape(*x.shape[:-1], H, -1)


def joined(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, *x.shape[2:])


LAYOUTS: dict[str, Callable[[np.ndarray, Layout, int], np.ndarray]] = {
    "packed": lambda x, pad, H: x,
    "packed, an axis of one": lambda x, pad, H: x[None],
    "padded": lambda x, pad, H: pad(x),
    "time first": lambda x, pad, H: pad(x).swapaxes(0, 1),
    "flat": lambda x, pad, H: pad(x).reshape(-1, x.shape[-1]),
    "heads last": lambda x, pad, H: in_heads(pad(x), H),
    "heads first": lambda x, pad, H: in_heads(pad(x), H).swapaxes(1, 2),
    "packed heads": lambda x, pad, H: in_heads(x, H),
    "packed heads first": lambda x, pad, H: in_heads(x, H).swapaxes(0, 1),
    "sequences and heads": lambda x, pad, H: joined(in_heads(pad(x), H).swapaxes(1, 2)),
    "torch's attention": lambda x, pad, H: in_heads(pad(x).swapaxes(0, 1), H).reshape(
        -1, len(pad(x)) * H, x.shape[1] // H
    ),
}
lengths_of_batches = st.lists(st.integers(1, 5), min_size=1, max_size=4)
sides = st.sampled_from(["left", "right"])


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    lengths=lengths_of_batches, H=st.integers(1, 3), D=st.integers(1, 3), more=st.integers(0, 2), side=sides,
    knows=st.sampled_from(["mask", "ids", ""]),
)  # fmt: skip
def test_values_of_rows_come_out_packed(
    layout: str, lengths: list[int], H: int, D: int, more: int, side: str, knows: str
) -> None:
    golden, S = golden_of(lengths, H, D), max(lengths) + more

    def pad(x: np.ndarray) -> np.ndarray:
        return padded(x, lengths, S, side)

    theirs = {
        "roberta.encoder.layer.0.attention.self.query": LAYOUTS[layout](golden[QUERY], pad, H),
        f"d.{QUERY}": LAYOUTS[layout](golden[f"d.{QUERY}"], pad, H),
    }
    if knows == "mask":
        theirs["attention_mask"] = mask_of(lengths, S, side)
    elif knows == "ids":
        theirs["input_ids"] = pad(golden["batch.ids"])
    found = align(golden, theirs)
    assert found.unknown == []
    for name in (QUERY, f"d.{QUERY}"):
        assert np.array_equal(found.theirs[name], golden[name]), found.notes
    if layout == "padded" and len(lengths) * S > sum(lengths):
        assert "padded rows removed" in found.notes[QUERY]


HEADS = {
    "target rows": lambda x, pad, targets: x[targets],
    "all rows": lambda x, pad, targets: x,
    "padded": lambda x, pad, targets: pad(x),
    "flat": lambda x, pad, targets: pad(x).reshape(-1, x.shape[-1]),
}


@pytest.mark.parametrize("layout", HEADS)
@given(lengths=lengths_of_batches, more=st.integers(0, 2), side=sides, spare=st.booleans())
def test_values_of_target_rows_come_out_alone(
    layout: str, lengths: list[int], more: int, side: str, spare: bool
) -> None:
    golden, S, rng = golden_of(lengths), max(lengths) + more, np.random.default_rng(2)
    targets, N = golden["batch.target_rows"], sum(lengths)
    theirs = {}
    for name, called in ((NORM, "lm_head.layer_norm"), (LOGITS, "logits")):
        x = rng.standard_normal((N, golden[name].shape[1] + (5 if name == LOGITS and spare else 0)))
        x[targets, : golden[name].shape[1]] = golden[name]
        theirs[called] = HEADS[layout](x, lambda x: padded(x, lengths, S, side), targets)
    found = align(golden, theirs)
    assert np.array_equal(found.theirs[NORM], golden[NORM])
    assert np.array_equal(found.theirs[LOGITS], golden[LOGITS])
    assert ("5 columns of the padded vocabulary" in found.notes[LOGITS]) == spare


@given(lengths=lengths_of_batches, H=st.integers(1, 3), more=st.integers(0, 2), side=sides, layout=st.integers(0, 2))
def test_values_of_pairs_come_out_by_sequence(lengths: list[int], H: int, more: int, side: str, layout: int) -> None:
    golden, S, B = golden_of(lengths, H), max(lengths) + more, len(lengths)
    x = np.random.default_rng(3).standard_normal((B, H, S, S))
    for b, n in enumerate(lengths):
        at = slice(S - n, S) if side == "left" else slice(0, n)
        x[b, :, at, at] = golden[f"{PROBABILITIES}.{b}"]
    theirs = (x, x.swapaxes(0, 1), x.reshape(B * H, S, S))[layout]
    found = align(golden, {PROBABILITIES: theirs})
    for b in range(B):
        name = f"{PROBABILITIES}.{b}"
        assert np.array_equal(found.theirs[name], golden[name]), found.notes


@pytest.mark.parametrize("K", [3, 4, 5, 9])
def test_slots_of_target_rows_are_put_side_by_side(K: int) -> None:
    golden = golden_of([5, 2, 4])  # whose targets are rows 0, 2, 4 | 6 | 8, 10
    slots = np.full((3, K, 6), 9.0)
    slots[0, :3], slots[1, :1], slots[2, :2] = np.split(golden[NORM], [3, 4])
    found = align(golden, {"mlm_head/intermediate_layer_norm": slots, "padding_mask": mask_of([5, 2, 4], 6, "right")})
    assert np.array_equal(found.theirs[NORM], golden[NORM])
    note, _, doubt = found.notes[NORM].partition("; ")
    assert note == "target rows read from mask slots"
    assert bool(doubt) == (K >= 5)  # they might be columns


def test_a_value_of_one_number_for_a_row() -> None:
    golden = golden_of([3, 2])
    for x in (padded(golden[MEAN], [3, 2], 4, "right"), padded(golden[MEAN], [3, 2], 3, "left")[..., None]):
        assert np.array_equal(align(golden, {MEAN: x}).theirs[MEAN], golden[MEAN])


@pytest.mark.parametrize("layout", ["torch", "keras"])
@pytest.mark.parametrize(("H", "D"), [(2, 3), (3, 3), (1, 4), (4, 1)])
def test_every_parameter_of_every_format_comes_out(layout: str, H: int, D: int) -> None:
    golden = golden_of([2], H, D)
    config = small_config(vocabulary_size=11, num_layers=1, num_heads=H, hidden_dim=H * D, intermediate_dim=4)
    names = [name for name in golden if name.startswith("parameters.")]
    if layout == "keras":
        places = [kerashub.renaming(config)]
        theirs = [{place: golden[f"parameters.{name}"].reshape(shape) for name, (place, shape) in places[0].items()}]
    else:
        theirs = []
        for renaming in (hf.renaming(config), fairseq.renaming(config)):
            one = {place: golden[f"parameters.{name}"].T if turned else golden[f"parameters.{name}"]
                   for name, (place, turned) in renaming.items()}  # fmt: skip
            position = renaming["embeddings.position"][0]
            one[position] = np.concatenate([np.zeros((2, H * D)), one[position]])
            theirs.append(one)
    for one in theirs:
        found = align(golden, one)
        assert list(found.theirs) == names
        assert found.unknown == []
        assert all(np.array_equal(x, golden[name]) for name, x in found.theirs.items())
        kernel = found.notes["parameters.layers.0.attention.query.kernel"]
        assert ("transposed" in kernel) == (layout == "torch")
        assert "a square" in kernel or layout == "keras"


@pytest.mark.parametrize("axis", [0, 1])
def test_queries_keys_and_values_in_one(axis: int) -> None:
    golden, parts = golden_of([3, 1]), ("query", "key", "value")
    kernels = [golden[f"parameters.layers.0.attention.{part}.kernel"] for part in parts]
    biases = [golden[f"parameters.layers.0.attention.{part}.bias"] for part in parts]
    outputs = [golden[f"layers.0.attention.{part}.output"] for part in parts]
    theirs = {
        "their.qkv": np.concatenate(kernels, axis=1) if axis else np.concatenate([k.T for k in kernels]),
        "encoder.sentence_encoder.layers.0.self_attn.in_proj_bias": np.concatenate(biases),
        "roberta.encoder.layer.0.attention.self.qkv": padded(np.concatenate(outputs, axis=1), [3, 1], 4, "left"),
    }
    declared = {"their.qkv": "parameters.layers.0.attention.qkv.kernel"}
    found = align(golden, {name: theirs[name] for name in ("their.qkv", *list(theirs)[1:2])}, declared)
    found.theirs.update(align(golden, {name: theirs[name] for name in list(theirs)[2:]}).theirs)
    for part in parts:
        for name in (f"parameters.layers.0.attention.{part}.{of}" for of in ("kernel", "bias")):
            assert np.array_equal(found.theirs[name], golden[name])
            assert "a third of queries, keys and values" in found.notes[name]
        assert np.array_equal(
            found.theirs[f"layers.0.attention.{part}.output"], golden[f"layers.0.attention.{part}.output"]
        )


def test_a_token_type_is_added_to_the_positions() -> None:
    golden, row = golden_of([2]), np.arange(6.0)
    position = golden["parameters.embeddings.position"]
    found = align(golden, {
        "roberta.embeddings.position_embeddings.weight": np.concatenate([np.ones((2, 6)), position - row]),
        "roberta.embeddings.token_type_embeddings.weight": row[None],
    })  # fmt: skip
    assert np.allclose(found.theirs["parameters.embeddings.position"], position)
    assert "the token type's row added" in found.notes["parameters.embeddings.position"]
    assert found.unknown == []


def test_a_padded_vocabulary_is_cut() -> None:
    golden = golden_of([2])
    table, bias = golden["parameters.embeddings.token"], golden["parameters.head.bias"]
    found = align(golden, {
        "roberta.embeddings.word_embeddings.weight": np.concatenate([table, np.ones((53, 6))]),
        "lm_head.bias": np.concatenate([bias, np.ones(5)]),
    })  # fmt: skip
    assert np.array_equal(found.theirs["parameters.embeddings.token"], table)
    assert np.array_equal(found.theirs["parameters.head.bias"], bias)
    assert "53 rows" in found.notes["parameters.embeddings.token"]


# --- doubts -----------------------------------------------------------------------------------------------------------


def test_a_guess_is_told_and_stays_the_same() -> None:
    golden = golden_of([3, 1])
    theirs = {QUERY: padded(golden[QUERY], [3, 1], 3, "left"), f"d.{QUERY}": np.zeros((2, 3, 6))}
    found = align(golden, theirs)
    for name in theirs:
        assert found.notes[name] == (
            "padded rows removed on the left; it also fits with the padding on the right, but then tensors of this "
            "kind are further from the trace"
        )


@pytest.mark.parametrize("side", ["left", "right"])
def test_all_tensors_together_tell_on_which_side_padding_is(side: str) -> None:
    golden, lengths, S = golden_of([3, 1, 4]), [3, 1, 4], 5
    other = {"left": "right", "right": "left"}[side]
    theirs = {
        f"layers.0.attention.{of}.output": padded(golden[f"layers.0.attention.{of}.output"], lengths, S, side)
        for of in ("query", "key", "value")
    }
    theirs[QUERY] = padded(golden[QUERY], lengths, S, other)  # as nothing but an early mistake could bring it
    wrong = theirs[QUERY][mask_of(lengths, S, side) == 1]
    of_pairs = np.zeros((3, 2, S, S))
    for b, n in enumerate(lengths):
        at = slice(S - n, S) if side == "left" else slice(0, n)
        of_pairs[b, :, at, at] = golden[f"{PROBABILITIES}.{b}"]
    found = align(golden, {**theirs, PROBABILITIES: of_pairs})
    assert np.array_equal(found.theirs[QUERY], wrong)
    for name in found.theirs:
        assert f"removed on the {side}" in found.notes[name]
        assert name == QUERY or np.array_equal(found.theirs[name], golden[name])


@pytest.mark.parametrize("as_slots", [True, False])
def test_all_tensors_together_tell_slots_from_rows(as_slots: bool) -> None:
    golden, lengths, K = golden_of([5, 2, 4]), [5, 2, 4], 5  # whose targets are rows 0, 2, 4 | 6 | 8, 10
    theirs, targets = {}, golden["batch.target_rows"]
    for name in (NORM, LOGITS):
        if as_slots:
            x = np.zeros((3, K, golden[name].shape[1]))
            x[0, :3], x[1, :1], x[2, :2] = np.split(golden[name], [3, 4])
        else:
            x = np.zeros((11, golden[name].shape[1]))
            x[targets] = golden[name]
            x = padded(x, lengths, K, "right")
        theirs[name] = x
    theirs[NORM] = theirs[NORM] * -1.5  # an early mistake, after which any zeros are nearer
    found = align(golden, theirs)
    assert np.array_equal(found.theirs[NORM], -1.5 * golden[NORM])
    assert np.array_equal(found.theirs[LOGITS], golden[LOGITS])
    other = "rows of the sequences" if as_slots else "mask slots of target rows"
    assert f"it also fits as {other}, but then tensors of this kind are further from the trace" in found.notes[LOGITS]


def test_what_nothing_tells_apart_is_told() -> None:
    golden = golden_of([3, 1])
    found = align(golden, {QUERY: np.zeros((2, 3, 6))})
    assert "it fits equally well: padded rows removed on the left" in found.notes[QUERY]


def test_a_square_by_a_declared_name_is_decided_by_distance_and_by_the_traces_own_name_not_at_all() -> None:
    golden, kernel = golden_of([2]), "parameters.layers.0.attention.query.kernel"
    found = align(golden, {"w": golden[kernel].T}, {"w": kernel})
    assert np.array_equal(found.theirs[kernel], golden[kernel])
    assert found.notes[kernel] == "transposed; it also fits, further from the trace: as it is"
    assert np.array_equal(align(golden, {kernel: golden[kernel].T}).theirs[kernel], golden[kernel].T)
    found = align(golden, {"q.weight": golden[kernel]}, {"q.weight": kernel})  # torch's
    assert np.array_equal(found.theirs[kernel], golden[kernel].T)


def test_a_classifiers_head_comes_out() -> None:
    golden = TRACES["classifier"]
    theirs = {"logits": golden[LOGITS], "classifier.dense.weight": golden["parameters.head.dense.kernel"].T}
    theirs |= {"classifier.out_proj.weight": golden["parameters.head.table"], "classifier": golden[LOGITS]}
    theirs["roberta.encoder.layer.1"] = padded(golden["layers.1.feed_forward.norm.output"], [3, 1, 6], 7, "right")
    found = align(golden, theirs)
    assert found.unknown == []
    assert all(np.array_equal(x, golden[name]) for name, x in found.theirs.items())
    assert {LOGITS, "parameters.head.dense.kernel", "parameters.head.table"} < found.theirs.keys()


def test_squares_lie_as_oblong_ones_of_the_same_dump() -> None:
    golden = golden_of([2])
    kernels = {name: golden[name] for name in golden if name.endswith(".kernel")}
    found = align(golden, {names_of(name)["hf"]: x for name, x in kernels.items()})  # not turned, as torch's would be
    assert all(np.array_equal(found.theirs[name], x) for name, x in kernels.items())
    square, oblong = (f"parameters.layers.0.{part}.kernel" for part in ("attention.query", "feed_forward.output"))
    assert (
        found.notes[square] == "a square kernel, read in the layout of their other kernels, not in that of Hugging Face"
    )
    assert found.notes[oblong] == "the layout is the transpose of Hugging Face's"


def test_a_wrong_number_stays_wrong() -> None:
    golden = golden_of([3, 2])
    wrong = golden[QUERY] + 100.0
    found = align(golden, {QUERY: padded(wrong, [3, 2], 4, "right"), "attention_mask": mask_of([3, 2], 4, "right")})
    assert np.array_equal(found.theirs[QUERY], wrong)
    nan = padded(np.full_like(golden[QUERY], np.nan), [3, 2], 4, "right")
    assert np.isnan(align(golden, {QUERY: nan}).theirs[QUERY]).any()


def test_masks_of_padding_are_the_other_way_round() -> None:
    golden, lengths = golden_of([3, 1]), [3, 1]
    mask = 1 - mask_of(lengths, 5, "left")
    found = align(golden, {QUERY: padded(golden[QUERY], lengths, 5, "left"), "encoder_padding_mask": mask})
    assert np.array_equal(found.theirs[QUERY], golden[QUERY])
    assert found.notes[QUERY] == "padded rows removed by their mask"


def test_two_names_of_one_tensor() -> None:
    golden = golden_of([2])
    layer = "roberta.encoder.layer.0.attention.self.query"
    same = align(golden, {layer: golden[QUERY], QUERY: golden[QUERY]})
    assert same.notes[QUERY].endswith("is the same")
    with pytest.raises(ValueError, match=r"should both be layers\.0\.attention\.query\.output, but differ"):
        align(golden, {layer: golden[QUERY], QUERY: golden[QUERY] + 1})
    found = align(golden, {layer: golden[QUERY], "mine": golden[QUERY] + 1}, {"mine": QUERY})
    assert found.names[QUERY] == "mine"
    assert "left out" in found.notes[QUERY]
    with pytest.raises(ValueError, match=r"'mine' and 'other' should both be .* Leave one out$"):
        align(golden, {"mine": golden[QUERY], "other": golden[QUERY] + 1}, {"mine": QUERY, "other": QUERY})


# --- what is left out, and what some rows have alone ------------------------------------------------------------------


def test_what_fits_nothing_is_left_out_and_said() -> None:
    golden = golden_of([3, 1])
    odd = {"roberta.encoder.layer.0.attention.self.query": np.ones((7, 6)), f"d.{QUERY}": np.ones((7, 6)),
           MEAN: np.ones(4, np.complex64), "embeddings.position": np.ones(3)}  # fmt: skip
    found = align(golden, {**odd, "lm_head": golden[LOGITS]})
    assert list(found.theirs) == [LOGITS]
    assert len(found.remarks) == 2
    assert re.search(
        rf"has shape \(7, 6\), and no known layout .*\. Left out: '.*self\.query', 'd\.{QUERY}'$", found.remarks[0]
    )
    assert (
        found.remarks[1]
        == f"'{MEAN}' has the dtype complex64; it should be an array of real numbers. Left out: '{MEAN}'"
    )
    for names in ({"lm_head": LOGITS, MEAN: MEAN}, {f"d.{QUERY}": f"d.{QUERY}"}):
        with pytest.raises(ValueError, match=r"should be an array of real numbers|no known layout"):
            align(golden, {**odd, "lm_head": golden[LOGITS]}, names)
    with pytest.raises(ValueError, match=r"has shape \(7, 6\), and no known layout"):
        align(golden, odd)


def test_a_token_type_that_fits_nothing_is_left_out_with_the_positions() -> None:
    golden, embeddings = golden_of([2]), "roberta.embeddings"
    theirs = {
        f"{embeddings}.position_embeddings.weight": golden["parameters.embeddings.position"],
        "logits": golden[LOGITS],
    }
    found = align(golden, {**theirs, f"{embeddings}.token_type_embeddings.weight": np.ones((1, 5))})
    assert list(found.theirs) == [LOGITS]
    assert (
        "token_type_embeddings.weight' has shape (5,), which can't be added to a position embedding of shape (7, 6)"
        in found.remarks[0]
    )
    assert found.remarks[0].endswith(f"Left out: '{embeddings}.position_embeddings.weight'")
    assert found.aside == {}


LAYER = "roberta.encoder.layer.1"
AROUND = {
    "layers.1.attention.norm.output": (
        [f"{LAYER}.attention.output", f"{LAYER}.attention"], [f"{LAYER}.attention.output.LayerNorm"],
    ),
    "layers.1.feed_forward.norm.output": (
        [LAYER, f"{LAYER}.output", "hidden_states.2"], [f"{LAYER}.output.LayerNorm"],
    ),
    "layers.0.feed_forward.norm.output": (["hidden_states.1"], ["roberta.encoder.layer.0"]),
    "d.layers.1.attention.norm.output": (
        [f"{LAYER}.attention.grad"], [f"{LAYER}.attention.output.grad", f"{LAYER}.attention.output.LayerNorm.grad"],
    ),
    "layers.1.attention.output.output": (
        ["transformer_layer_1/self_attention_layer"], ["transformer_layer_1/self_attention_layer/attention_output"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("inner_first", [True, False])
@pytest.mark.parametrize("name", AROUND)
def test_of_modules_that_differ_the_outer_one_counts(name: str, inner_first: bool) -> None:
    golden, (outer, inner) = TRACES["masked_lm"], AROUND[name]
    theirs = dict.fromkeys(outer, golden[name]) | dict.fromkeys(inner, golden[name] + 1.0)
    theirs = dict(reversed(theirs.items())) if inner_first else theirs
    found = align(golden, theirs)
    assert list(found.theirs) == [name]
    assert np.array_equal(found.theirs[name], golden[name])
    assert found.names[name] in outer
    (remark,) = found.remarks
    assert any(f"{one} and " in remark for one in inner)
    assert any(f" and {one} should be equal, but differ; the second is used" in remark for one in outer)


def test_modules_that_differ_in_many_layers_are_told_once() -> None:
    golden, theirs = TRACES["masked_lm"], {}
    for i in range(2):
        x = golden[f"layers.{i}.feed_forward.norm.output"]
        theirs |= {f"roberta.encoder.layer.{i}": x, f"roberta.encoder.layer.{i}.output.LayerNorm": 2.0 * x}
    (remark,) = align(golden, theirs).remarks
    assert "and roberta.encoder.layer.0 should be equal, but differ; the second is used" in remark
    assert remark.endswith(", as in one more place")


@pytest.mark.parametrize(
    ("embedding", "decoder"),
    [
        ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        ("encoder.sentence_encoder.embed_tokens.weight", "encoder.lm_head.weight"),
        ("mine", "lm_head.decoder.weight"),
    ],
)
def test_a_decoder_that_is_not_the_token_embedding_is_put_aside(embedding: str, decoder: str) -> None:
    golden, name = golden_of([2]), "parameters.embeddings.token"
    other = np.ones((16, 6), np.float32)  # of a padded vocabulary
    names = {"mine": name} if embedding == "mine" else {}
    found = align(golden, {decoder: other, embedding: golden[name]}, names)
    assert np.array_equal(found.theirs[name], golden[name])
    assert found.names[name] == embedding
    assert np.array_equal(found.aside["decoder"], other[:11])
    (remark,) = found.remarks
    assert remark.startswith(f"{decoder} and {embedding} should be equal, but differ: the head's matrix is not")
    same = align(golden, {decoder: golden[name], embedding: golden[name]}, names)
    assert (same.aside, same.remarks) == ({}, [])
    alone = align(golden, {decoder: other})
    assert alone.names[name] == decoder
    declared = align(golden, {decoder: other, embedding: golden[name]}, {decoder: name})
    assert declared.names[name] == decoder
    assert declared.aside == {}


def test_the_token_type_and_the_number_of_columns_are_kept_aside() -> None:
    golden, row = golden_of([3, 1]), np.arange(6.0)
    types = {"roberta.embeddings.token_type_embeddings.weight": np.stack([row, 2 * row])}
    found = align(golden, {**types, QUERY: golden[QUERY]})
    assert found.aside.keys() == {"token_type"}
    assert np.array_equal(found.aside["token_type"], row)
    ids, mask = padded(golden["batch.ids"], [3, 1], 7, "left"), mask_of([3, 1], 5, "right")
    for theirs, S in (
        ({"attention_mask": mask}, 5),
        ({"input_ids": ids}, 7),
        ({"padding_mask": mask, "input_ids": ids}, 5),
    ):
        found = align(golden, {**theirs, QUERY: golden[QUERY]})
        assert found.aside["columns"].shape == ()
        assert found.aside["columns"] == S
    assert align(golden, {QUERY: golden[QUERY], "input_ids": golden["batch.ids"]}).aside == {}


SOME: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": lambda x: x, "heads": lambda x: in_heads(x, 2), "heads first": lambda x: in_heads(x, 2).swapaxes(0, 1),
}  # fmt: skip


@pytest.mark.parametrize("layout", SOME)
@pytest.mark.parametrize("kind", ["only target rows given", "only first tokens given"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_not_there_are_nan(layout: str, kind: str, dtype: type) -> None:
    golden = golden_of([5, 2, 4])
    rows = golden["batch.target_rows"] if kind == "only target rows given" else golden["batch.starts"][:-1]
    is_present = np.isin(np.arange(11), rows)
    for name in (QUERY, f"d.{QUERY}"):
        x = golden[name].astype(dtype)
        found = align(golden, {name: SOME[layout](x[rows]), LOGITS: golden[LOGITS]})
        assert np.array_equal(found.partial[name], is_present)
        assert found.theirs[name].dtype == dtype
        assert np.array_equal(found.theirs[name][is_present], x[rows])
        assert np.isnan(found.theirs[name][~is_present]).all()
        assert kind in found.notes[name]
        assert LOGITS not in found.partial
    assert np.array_equal(align(golden, {MEAN: golden[MEAN][rows]}).partial[MEAN], is_present)


def test_as_many_targets_as_sequences_are_told_apart_by_distance() -> None:
    golden = golden_of([1, 3])  # targets: rows 0 and 2
    for rows, note in (
        (golden["batch.target_rows"], "only target rows given"),
        (np.array([0, 1]), "only first tokens given"),
    ):
        found = align(golden, {QUERY: golden[QUERY][rows]})
        assert np.flatnonzero(found.partial[QUERY]).tolist() == rows.tolist()
        assert found.notes[QUERY].startswith(f"{note}; it also fits, further from the trace: ")
    alone = align(golden_of([2]), {QUERY: golden_of([2])[QUERY][:1]})  # where both are the same row
    assert alone.notes[QUERY] == "only target rows given"


def test_rows_of_two_names_are_put_together() -> None:
    golden, theirs = golden_of([5, 2, 4]), {"hidden": QUERY, "other": QUERY}
    rows, starts = golden["batch.target_rows"], golden["batch.starts"][:-1]
    x = golden[QUERY]
    found = align(golden, {"hidden": x[rows], "other": x[starts]}, theirs)
    assert np.flatnonzero(found.partial[QUERY]).tolist() == sorted({*rows, *starts})
    assert np.array_equal(found.theirs[QUERY][found.partial[QUERY]], x[found.partial[QUERY]])
    for first, second in ((x[rows], x), (x, x[rows])):
        whole = align(golden, {"hidden": first, "other": second}, theirs)
        assert np.array_equal(whole.theirs[QUERY], x)
        assert whole.partial == {}
    with pytest.raises(ValueError, match="'hidden' and 'other' should both be"):
        align(golden, {"hidden": x[rows], "other": x + 1.0}, theirs)


def test_a_comparison_takes_what_has_some_rows_alone() -> None:
    golden, name = TRACES["masked_lm"], "layers.1.feed_forward.norm.output"
    theirs = {LAYER: golden[name][golden["batch.target_rows"]], "lm_head": golden[LOGITS]}
    found = align(golden, theirs)
    assert found.partial.keys() == {name}
    assert compare(golden, found)


@pytest.mark.parametrize("kept", ["bfloat16", "float16", "float32"])
def test_what_a_sum_of_rounded_tables_lost_is_of_what_they_were_kept_in(kept: str) -> None:
    golden, rng, row = golden_of([2]), np.random.default_rng(4), np.zeros(6, np.float32)
    tables = [rng.standard_normal((9, 6)).astype(np.float32), 0.1 * rng.standard_normal((1, 6)).astype(np.float32)]
    unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}[kept]
    if kept == "bfloat16":
        tables = [(table.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for table in tables]
    elif kept == "float16":
        tables = [table.astype(np.float16) for table in tables]
    for types in (tables[1], row[None]):
        name = "parameters.embeddings.position"
        found = align(golden, {
            "roberta.embeddings.position_embeddings.weight": tables[0],
            "roberta.embeddings.token_type_embeddings.weight": types,
        })  # fmt: skip
        least = unit * np.abs(tables[0][2:])
        assert (found.lost[name] >= least).all()
        assert (found.lost[name] <= 8.0 * (least + unit * np.abs(types).max())).all()


def test_a_declared_parameters_name_holds_for_what_is_made_of_it() -> None:
    golden, bias = traced(small_config(), steps=2, precision=None), "layers.0.feed_forward.output.bias"
    theirs = {"b": golden[f"parameters.{bias}"]}
    for name, ours in (
        ("b.grad", "gradients"), ("clipped.b", "clipped"), ("updated.b", "updated"), ("exp_avg.b", "slots.m"),
        ("exp_avg_sq.b", "slots.v"), ("step_1.updated.b", "step_1.updated"), ("step_1.exp_avg.b", "step_1.slots.m"),
    ):  # fmt: skip
        theirs[name] = golden[f"{ours}.{bias}"]
    found = align(golden, theirs, {"b": f"parameters.{bias}"})
    assert (found.unknown, len(found.theirs)) == ([], len(theirs))
    for name, array in theirs.items():
        ours = next(one for one, its in found.names.items() if its == name)
        assert np.array_equal(found.theirs[ours], array)
        assert np.array_equal(golden[ours], array), (name, ours)


def test_tables_are_never_turned() -> None:
    golden = golden_of([3, 1])
    name = "parameters.embeddings.position"
    x = np.random.default_rng(0).standard_normal((len(golden[name]),) * 2)
    golden.add(name, x, Entry("", "embeddings", "parameters"))
    assert align(golden, {"mine": x.T + 0.0}, {"mine": name}).notes[name] == "as it is"


@pytest.mark.parametrize("argument", ["golden", "tensors", "names"])
def test_files_names_in_the_place_of_what_is_in_them_are_refused(argument: str) -> None:
    given = {"golden": golden_of([2]), "tensors": {}, "names": {}, argument: "file"}
    with pytest.raises(TypeError, match=f"{argument} should be a .*; got a str"):
        align(**given)
    with pytest.raises(TypeError, match="the names of tensors should be texts, got 3"):
        align(golden_of([2]), {3: np.ones(2)})


@pytest.mark.parametrize("name", ["{}.grad", "grad.{}"])
def test_a_declared_name_holds_for_the_gradient_too(name: str) -> None:
    golden, kernel = TRACES["masked_lm"], "layers.0.feed_forward.output.kernel"
    value = "layers.0.feed_forward.output"
    theirs = {"h": golden[value], name.format("h"): golden[f"d.{value}"], "w.weight": golden[f"parameters.{kernel}"].T}
    theirs[name.format("w.weight")] = golden[f"gradients.{kernel}"].T
    names = {"h": value, "w.weight": f"parameters.{kernel}"}
    found = align(golden, theirs, names)
    assert found.unknown == []
    for ours in (value, f"d.{value}", f"parameters.{kernel}", f"gradients.{kernel}"):
        assert np.array_equal(found.theirs[ours], golden[ours]), ours


def test_what_is_unknown_is_listed_and_the_order_is_the_traces() -> None:
    golden = golden_of([2])
    found = align(
        golden, {"logits": golden[LOGITS], "x": np.ones(2), "roberta.pooler": np.ones(2), QUERY: golden[QUERY]}
    )
    assert found.unknown == ["x", "roberta.pooler"]
    assert list(found.theirs) == [QUERY, LOGITS]
    assert found.notes[QUERY] == "as it is"


def test_a_scalar_may_have_an_axis():
    golden = Trace()
    golden.add("loss.share", np.float64(2.0), Entry())
    found = align(golden, {"loss": np.ones((1, 1))})
    assert found.theirs["loss.share"].shape == ()
    assert found.notes["loss.share"] == "one number"


@pytest.mark.parametrize(
    ("theirs", "names", "message"),
    [
        ({QUERY: np.ones((7, 6))}, {}, r"has shape \(7, 6\), and no known layout converts .* \(4, 6\) in the trace"),
        ({QUERY: np.ones(())}, {}, r"no known layout"),
        ({PROBABILITIES: np.ones((2, 2, 2, 3))}, {}, r"no known layout"),
        ({"parameters.layers.0.feed_forward.output.kernel": np.ones((6, 4))}, {}, r"Transpose it"),
        ({"lm_head.dense.weight": np.ones((6, 5))}, {}, r"no known layout"),
        ({"attention_mask": np.ones((2, 3))}, {}, r"sequences of \[3, 3\] tokens, the trace's batch of \[3, 1\]"),
        ({"attention_mask": np.ones(3)}, {}, r"should have two axes, \(B, S\)"),
        ({QUERY: np.full((4, 6), "a")}, {}, r"should be an array of real numbers"),
        ({"x": np.ones(2)}, {"y": QUERY}, r"names declares 'y', and no tensor has such a name; .* 'x'"),
        ({"x": np.ones(2)}, {"x": "layers.7"}, r"declared as 'layers.7', which is not in the trace"),
        ({"x": np.ones(2)}, {"x": "embeddings.token"}, r"similar names of .* are parameters\.embeddings\.token"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(theirs: dict[str, np.ndarray], names: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align(golden_of([3, 1]), theirs, names)


@pytest.mark.parametrize("kind", ["masked_lm", "lora"])
def test_a_trace_in_a_file_is_as_good(kind: str, tmp_path: Path) -> None:
    golden = TRACES[kind]
    golden.save(tmp_path / "golden.safetensors")
    name, S = "layers.1.attention.query.output", 8
    starts = golden["batch.starts"]
    heads = padded(golden[name], np.diff(starts).tolist(), S, "left").reshape(3, S, 2, 4).swapaxes(1, 2)
    theirs = {name: heads, "roberta.encoder.layer.1.output.dense": golden["layers.1.feed_forward.output"]}
    found = [align(one, theirs) for one in (golden, read_trace(tmp_path / "golden.safetensors"))]
    assert found[0].notes == found[1].notes
    assert np.array_equal(found[1].theirs[name], golden[name])


def test_a_later_update_has_its_number_in_front() -> None:
    golden = traced(small_config(), steps=2, precision=None)
    theirs = {f"step_1.{names_of(name)['hf']}": x for name, x in golden.items() if name == "loss.logits"}
    assert list(align(golden, theirs).theirs) == ["step_1.loss.logits"]


def test_clipping_and_the_update_are_told() -> None:
    golden = TRACES["masked_lm"]
    bias = golden["gradients.head.bias"]
    found = align(golden, {"lm_head.bias": bias, "lm_head.bias.grad": bias})
    assert "before the update" in found.notes["parameters.head.bias"]
    assert "before clipping" in found.notes["gradients.head.bias"]


# --- files ------------------------------------------------------------------------------------------------------------

ARRAYS = {
    "a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.array(2.5), "d": np.zeros((0, 3), np.int64),
    "e": np.asfortranarray(np.arange(6).reshape(2, 3)), "f": np.array([True, False]), "g": np.arange(3, dtype=">f4"),
}  # fmt: skip


def in_directory(directory: Path) -> Path:
    (directory / "a").mkdir(parents=True)
    for name, array in ARRAYS.items():
        np.save(directory / f"{name.replace('.', '/')}.npy", array)
    (directory / "readme.txt").write_text("not a tensor")
    return directory


def npz(file: Path, save=np.savez) -> Path:
    save(file, **ARRAYS)
    return file


FILES: dict[str, Callable[[Path], Path]] = {
    "npz": lambda at: npz(at / "x.npz"),
    "npz, packed": lambda at: npz(at / "x.npz", np.savez_compressed),
    "npy": lambda at: in_directory(at / "x"),
}


@pytest.mark.parametrize("kind", FILES)
def test_numpys_files_are_read(kind: str, tmp_path: Path) -> None:
    found = read_tensors(FILES[kind](tmp_path))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name], array)
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype.newbyteorder("=")


def test_other_files_are_read(tmp_path: Path) -> None:
    safetensors_io.write(tmp_path / "x.safetensors", {"a": np.ones((2, 3))})
    assert read_tensors(tmp_path / "x.safetensors")["a"].shape == (2, 3)
    np.save(tmp_path / "one.npy", np.ones(3))
    assert read_tensors(str(tmp_path / "one.npy"))["one"].tolist() == [1, 1, 1]
    numbers = np.arange(6, dtype=np.float32)
    inner = state(a=tensor("0", (2, 3)))
    for file in (
        zipped(tmp_path / "x.pt", state(a=tensor("0", (2, 3)), b=inner, step=number(3)), {"0": numbers.tobytes()}),
        older(tmp_path / "x.bin", state(a=tensor("0", (2, 3)), b=inner), {"0": numbers}),
    ):
        found = read_tensors(file)
        assert list(found) == ["a", "b.a"]
        assert found["b.a"].tolist() == numbers.reshape(2, 3).tolist()


def objects(at: Path) -> Path:
    np.save(at / "x.npy", np.array([{}], object), allow_pickle=True)
    return at / "x.npy"


def of_objects(at: Path) -> Path:
    np.savez(at / "x.npz", a=np.array([{}], object))
    return at / "x.npz"


def bomb(at: Path) -> Path:
    with zipfile.ZipFile(at / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "|u1", "fortran_order": False, "shape": (70_000_000,)})
        for _ in range(70):
            entry.write(bytes(1_000_000))
    return at / "x.npz"


def twice(at: Path) -> Path:
    with zipfile.ZipFile(npz(at / "x.npz"), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("c.npy", b"")
    return at / "x.npz"


def stranger(at: Path) -> Path:
    with zipfile.ZipFile(at / "x.npz", "w") as archive:
        archive.writestr("c.txt", b"")
    return at / "x.npz"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        (at / name).write_bytes(content)
        return at / name

    return make


def pipe(at: Path) -> Path:
    os.mkfifo(at / "a.npy")
    return at


def two_files(at: Path) -> Path:
    in_directory(at / "x")
    np.save(at / "x" / "a.b.npy", np.ones(1))
    return at / "x"


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def npy(descr: str, shape: str, numbers: bytes = b"") -> Callable[[Path], Path]:
    return written("x.npy", header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape})}}\n") + numbers)


def torchs(body: bytes) -> Callable[[Path], Path]:
    return lambda at: zipped(at / "x.pt", body, {"0": bytes(4)})


def deep(at: Path) -> Path:
    body = state(a=tensor("0", (1,)))
    for _ in range(9):
        body = state(a=body)
    return zipped(at / "x.pt", body, {"0": bytes(4)})


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "objects": (objects, "array of object"),
    "objects in an npz": (of_objects, "array of object"),
    "bomb": (bomb, r"7000\d* bytes are needed"),
    "a name twice": (twice, "twice"),
    "no npy in it": (stranger, "is not an .npy"),
    "no zip": (written("x.npz", b"PK\x03\x04 something"), "is not an .npz"),
    "empty": (written("x.npy", b""), "is empty"),
    "another file": (written("x.npy", b"no numbers at all"), "is not an .npy"),
    "another version": (written("x.npy", b"\x93NUMPY\x09\x00aaaa"), r"version 9\.0"),
    "code": (written("x.npy", header("__import__('os').abort()\n")), "header can't be read"),
    "a long shape": (npy("<f4", "1, " * 90), "shape"),
    "a large shape": (npy("<f4", "1" + "0" * 30 + ","), "shape"),
    "a shape below 0": (npy("<f4", "-1, -1", bytes(4)), "shape"),
    "no numbers": (npy("<f4", "1000000000,"), "takes 4000000000 bytes, but 0 follow"),
    "texts": (npy("<U1", "1,", bytes(4)), "array of <U1"),
    "complex numbers": (npy("<c8", "1,", bytes(8)), "array of complex64"),
    "another suffix": (written("x.h5", b"\x89HDF"), r"should be one of \.safetensors"),
    "a pipe": (pipe, "a pipe or a device"),
    "two files of a name": (two_files, "two files for the tensor 'a.b'"),
    "no dict": (torchs(tensor("0", (1,))), "should hold a dict"),
    "no tensors": (torchs(state(step=number(3))), "no tensors"),
    "a tuple": (torchs(state(a=tensor("0", (1,)) + b"\x85")), "tuple of tensors"),
    "deep": (deep, "more than 6 deep"),
    "a call": (torchs(b"cos\nsystem\n(" + text("false") + b"tR"), r"it calls os\.system"),
    "safetensors": (written("x.safetensors", b"\xff" * 16), "not a safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(kind: str, tmp_path: Path) -> None:
    make, message = HOSTILE[kind]
    with pytest.raises(ValueError, match=message):
        dict(read_tensors(make(tmp_path)))


def test_a_bomb_is_beyond_the_budget(tmp_path: Path) -> None:
    with pytest.raises(OverBudget):
        read_tensors(bomb(tmp_path))["a"]


def test_nothing_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.npy files; it has nothing"):
        read_tensors(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "x.npz")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    at = tmp_path_factory.mktemp("sound")
    np.save(at / "x.npy", ARRAYS["a.b"])
    files = {"x.npy": at / "x.npy", "x.npz": npz(at / "x.npz"), "packed.npz": npz(at / "p.npz", np.savez_compressed)}
    return {name: file.read_bytes() for name, file in files.items()}


@pytest.mark.filterwarnings("ignore")  # NumPy's, of headers that look like Python 2's
@pytest.mark.parametrize("name", ["x.npy", "x.npz", "packed.npz"])
@given(data=st.data())
def test_a_damaged_file_is_a_value_error_or_read(
    name: str, sound: dict[str, bytes], data: st.DataObject, tmp_path_factory
) -> None:
    content = bytearray(sound[name])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(content)
    try:
        assert {array.dtype.kind for array in read_tensors(file).values()} <= set("biuf")
    except ValueError as error:
        message = str(error)
    else:
        message = name
    assert name in message
