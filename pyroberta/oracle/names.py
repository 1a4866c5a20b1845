"""The names of a trace's tensors in the implementations of Hugging Face, fairseq and Keras.

The names of parameters come from `presets`. The output of a module has the module's name. That is the name of the
module's parameters without the last component. All other names are in `MORE`.

In files of other people, a gradient has `.grad` at the end, or `grad.` or `gradients.` in front. Adam's slots have
`exp_avg.` and `exp_avg_sq.` in front. `names_of` returns such names, and `Names` reads them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pyroberta.model.parameters import split_layer
from pyroberta.presets import fairseq, hf, kerashub
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.presets.renaming import MOST_WRAPPERS

FORMATS = {"hf": "Hugging Face", "keras": "Keras", "fairseq": "fairseq"}

# The output of the module that has a parameter, where it is called otherwise than the module.
OUTPUTS = {
    "embeddings.token": "embeddings.of_tokens",
    "embeddings.position": "embeddings.of_positions",
    "embeddings.token_type": "embeddings.of_token_types",  # of Hugging Face's alone; the trace has it in the positions
    "layers.#.feed_forward.intermediate.kernel": "layers.#.feed_forward.intermediate",
    "layers.#.feed_forward.output.kernel": "layers.#.feed_forward.output",
}
# The same in Keras, whose dense layers have the activation inside.
KERAS_OUTPUTS = {
    "layers.#.feed_forward.intermediate.kernel": "layers.#.feed_forward.activation",
    "head.dense.kernel": "head.gelu.output",
}
HF_LAYER, FAIRSEQ_LAYER = "roberta.encoder.layer.#", "encoder.sentence_encoder.layers.#"
# Values -> the modules that give them without having parameters of their own, and what models call their results.
MORE: dict[str, dict[str, tuple[str, ...]]] = {
    "hf": {
        "batch.ids": ("input_ids",),
        "batch.labels": ("labels",),
        "embeddings.dropout.output": ("roberta.embeddings", "roberta.embeddings.dropout", "hidden_states.0"),
        "layers.#.attention.context": (f"{HF_LAYER}.attention.self",),
        "layers.#.attention.dropped": ("attentions.#", f"{HF_LAYER}.attention.self.dropout"),  # after dropout there
        "layers.#.attention.norm.dropped": (f"{HF_LAYER}.attention.output.dropout",),
        "layers.#.attention.norm.output": (f"{HF_LAYER}.attention.output", f"{HF_LAYER}.attention"),
        "layers.#.feed_forward.activation": (
            f"{HF_LAYER}.intermediate", f"{HF_LAYER}.intermediate.intermediate_act_fn",
        ),
        "layers.#.feed_forward.norm.dropped": (f"{HF_LAYER}.output.dropout",),
        "layers.#.feed_forward.norm.output": (f"{HF_LAYER}.output", HF_LAYER),
        "loss.logits": ("lm_head", "logits", "lm_head.decoder"),
        "loss.share": ("loss",),
    },
    "fairseq": {
        "embeddings.dropout.output": ("encoder.sentence_encoder.dropout_module",),
        "layers.#.attention.output.output": (f"{FAIRSEQ_LAYER}.self_attn",),
        "layers.#.feed_forward.norm.output": (FAIRSEQ_LAYER,),
        "loss.logits": ("encoder.lm_head", "logits"),
    },
    "keras": {
        "batch.ids": ("token_ids",),
        "embeddings.output": ("embeddings",),
        "embeddings.dropout.output": ("embeddings_dropout",),
        "layers.#.attention.probabilities": ("transformer_layer_#/self_attention_layer/softmax",),
        "layers.#.attention.output.output": ("transformer_layer_#/self_attention_layer",),
        "layers.#.feed_forward.norm.output": ("transformer_layer_#",),
        "loss.logits": ("mlm_head", "logits"),
    },
}  # fmt: skip
CLASSIFIER = {"hf": ("classifier", "logits", "classifier.out_proj"), "keras": ("logits",)}  # its logits
LAST_STATE = {
    "hf": ("last_hidden_state", "roberta.encoder", "roberta"),
    "fairseq": ("encoder.sentence_encoder",),
    "keras": ("roberta_backbone",),
}
LISTS = ("scores", "probabilities", "keep", "dropped")  # of attention: one array for each sequence

# What a tensor of a parameter, or the gradient of a value, is called in other dumps.
WRITTEN = {
    "parameters": "{}", "gradients": "{}.grad", "clipped": "clipped.{}", "updated": "updated.{}",
    "slots.m": "exp_avg.{}", "slots.v": "exp_avg_sq.{}", "d": "{}.grad",
}  # fmt: skip
OF_PARAMETERS = tuple(kind for kind in WRITTEN if kind != "d")
# The same as it is read: what stands in front or behind, and what it is of a parameter and of a value.
READ = (
    (r"(.*)\.grad", "gradients", "d"),
    (r"(?:grads?|gradients?|d)\.(.*)", "gradients", "d"),
    (r"clipped\.(.*)", "clipped", None),
    (r"updated\.(.*)", "updated", None),
    (r"parameters\.(.*)", "parameters", None),
    (r"exp_avg\.(.*)|(.*)\.exp_avg", "slots.m", None),
    (r"exp_avg_sq\.(.*)|(.*)\.exp_avg_sq", "slots.v", None),
    (r"(.*)", "parameters", ""),
)  # fmt: skip
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "module",
    "model",
    "base_model",
    "backbone",
    "roberta_backbone",
)  # that stand in front
INNER_WRAPPERS = r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."


class Match(NamedTuple):
    """The tensor of the trace that a tensor of another implementation may be.

    Attributes:
        name: the trace's name. For attention's lists, it has no number of a sequence. For queries, keys and values in
            one, it has `qkv` instead of `query`.
        format: a key of `FORMATS`, or "" if the name was the trace's own or declared.
        turned: whether the given matrix is the transpose (out, in), or None if that is unknown.
    """

    name: str
    format: str
    turned: bool | None


def names_of(trace_name: str, head: str = "masked_lm") -> dict[str, str]:
    """Returns the names of a trace's tensor in other implementations: `hf`, `keras` or `fairseq` -> name. An
    implementation without such a tensor is missing.

    Args:
        trace_name: the trace's name of the tensor.
        head: the head of the model, a key of `HEADS`.

    >>> names_of("layers.3.attention.query.output")["hf"]
    'roberta.encoder.layer.3.attention.self.query'
    >>> names_of("gradients.layers.3.attention.query.kernel")["keras"]
    'transformer_layer_3/self_attention_layer/query/kernel.grad'
    >>> names_of("loss.log_sums")
    {}
    """
    step, rest = split_step(trace_name)
    kind = next((kind for kind in WRITTEN if rest.startswith(f"{kind}.")), None)
    ours = rest.removeprefix(f"{kind}.")
    ours = re.sub(rf"(attention\.(?:{'|'.join(LISTS)}))\.\d+$", r"\1", ours)
    pattern, layer = split_layer(ours)
    found = {}
    for format in FORMATS:
        if kind in OF_PARAMETERS:
            theirs = tuple(name for name, _ in _parameters(format, head).get(pattern, ()))
        else:
            theirs = tuple(_values(format, head).get(pattern, ()))
        if theirs:
            name = theirs[0].replace("#", layer)
            found[format] = step + (WRITTEN[kind].format(name) if kind else name)
    return found


class Names:
    """Reads the names that other implementations give to a model's tensors.

    Args:
        layers: the number of layers of the model.
        head: the head of the model, a key of `HEADS`.
        untied: whether the masked LM's head has an output matrix of its own.
    """

    def __init__(self, layers: int, head: str = "masked_lm", untied: bool = False) -> None:
        self._parameters: dict[str, list[Match]] = {}
        self._values: dict[str, list[Match]] = {}
        for format in FORMATS:
            parameters = dict(_parameters(format, head))
            if not untied:  # the same matrix and bias once more
                again = [*parameters.pop("head.decoder", [])]
                parameters["embeddings.token"] = [*parameters["embeddings.token"], *again]
                if format == "hf" and head == "masked_lm":
                    parameters["head.bias"] = [*parameters["head.bias"], ("lm_head.decoder.bias", False)]
            elif format == "hf":  # transformers 5 stores lm_head.bias too, and doesn't use it
                parameters["head.bias"] = [("lm_head.decoder.bias", False)]
            for pattern, all_names in parameters.items():
                for name, turned in all_names:
                    self._add(self._parameters, name, Match(pattern, format, turned), layers)
            for pattern, names in _values(format, head).items():
                for name in names:
                    self._add(self._values, name, Match(pattern, format, None), layers)
        for i in range(layers):
            after = f"layers.{i}.feed_forward.norm.output"
            self._add(self._values, f"hidden_states.{i + 1}", Match(after, "hf", None), layers)
            for format, last in LAST_STATE.items() if i == layers - 1 else ():
                for name in last:
                    self._add(self._values, name, Match(after, format, None), layers)

    def _add(self, into: dict[str, list[Match]], name: str, match: Match, layers: int) -> None:
        for i in range(layers if "#" in match.name else 1):
            # KerasHub's files have nothing for the first layer's number
            one = name.replace("_#/_", f"_{i}/_" if i else "/_").replace("#", str(i)).replace("/", ".")
            into.setdefault(one, []).append(match._replace(name=match.name.replace("#", str(i))))

    def read(self, theirs: str) -> list[Match]:
        """Returns the tensors that may have this name, in any of the implementations. The list is empty for an unknown
        name.
        """
        step, rest = split_step(theirs.replace("/", ".").removesuffix(":0"))
        for form, of_parameter, of_value in READ:
            if not (parts := re.fullmatch(form, rest)):
                continue
            name = next(part for part in parts.groups() if part is not None)
            found: list[Match] = []
            for one in _spellings(name):
                found += [m._replace(name=f"{step}{of_parameter}.{m.name}") for m in self._parameters.get(one, ())]
                if of_value is not None:
                    prefix = f"{step}{of_value}." if of_value else step
                    found += [m._replace(name=prefix + m.name) for m in self._values.get(one, ())]
            if found:
                return found
        return []


def split_step(name: str) -> tuple[str, str]:
    """Splits the name of a tensor into the number of a later update with its point, such as "step_1.", and the rest.
    Without a number, the first text is empty.
    """
    found = re.match(r"step_\d+\.", name)
    return (found[0], name[found.end() :]) if found else ("", name)


def _spellings(name: str) -> Iterator[str]:
    """The name without wrappers, as newer versions spell it, and with the components that some leave out in front."""
    name = re.sub(INNER_WRAPPERS, "", name)
    for _ in range(MOST_WRAPPERS):
        first, _, rest = name.partition(".")
        if first not in WRAPPERS or not rest:
            break
        name = rest
    newer = re.sub(r"(\.LayerNorm|\.layer_norm)\.gamma$", r"\1.weight", name)
    newer = re.sub(r"(\.LayerNorm|\.layer_norm)\.beta$", r"\1.bias", newer)
    newer = re.sub(r"^decoder\.", "encoder.", newer).replace(".emb_layer_norm", ".layernorm_embedding")
    for left_out in ("", "roberta.", "encoder.", "layers."):
        yield left_out + newer


@functools.cache
def _parameters(format: str, head: str) -> Mapping[str, Sequence[tuple[str, bool]]]:
    """Our patterns of parameters -> their names there, the usual one first, and whether it lies (out, in)."""
    files = HEAD_FILES[head]
    if format == "keras":
        paths = {**{ours: f"layers/{path}" for ours, path in kerashub.NAMES.items()}, **files.keras_names}
        return {
            ours: [(variable, ours == "head.table") for variable in (_variable(ours, path), path)]
            for ours, path in paths.items()
        }
    names = {**hf.NAMES, **files.hf_names} if format == "hf" else {**fairseq.NAMES, **files.fairseq_names}
    found = {ours: [place] for ours, place in names.items()}
    if format == "hf":
        found["embeddings.token_type"] = [(hf.TOKEN_TYPE, False)]
    for ours, (name, turned) in names.items():
        if ".query." in ours:
            fused = name.replace("self.query.", "self.qkv."), name.replace("q_proj.", "in_proj_")
            found[ours.replace(".query.", ".qkv.")] = [(one, turned) for one in fused if one != name]
    return found


def _variable(ours: str, path: str) -> str:
    """The path of a variable in a Keras model, of the one in KerasHub's file.

    >>> _variable("layers.#.attention.norm.gamma", "layers/transformer_encoder_#/_self_attention_layer_norm/vars/0")
    'transformer_layer_#/self_attention_layer_norm/gamma'
    """
    if path == "layers/masked_lm_head/vars/0":
        return "mlm_head/output_bias"
    last = "embeddings" if ours in ("embeddings.token", "embeddings.position") else ours.rpartition(".")[2]
    path = re.sub(r"vars/\d$", "kernel" if last == "table" else last, path.removeprefix("layers/")).replace("/_", "/")
    for pattern, replacement in (
        ("token_and_position_embedding", "embeddings"), ("layer_normalization", "embeddings_layer_norm"),
        ("transformer_encoder", "transformer_layer"), ("masked_lm_head", "mlm_head"),
        ("(query|key|value)_dense", r"\1"), ("/output_dense", "/attention_output"),
        ("^dense_1/", "logits/"), ("^dense/", "pooled_dense/"),
    ):  # fmt: skip
        path = re.sub(pattern, replacement, path)
    return path


@functools.cache
def _values(format: str, head: str) -> Mapping[str, Sequence[str]]:
    """Our patterns of values -> their names there, the usual one first."""
    found: dict[str, list[str]] = {}
    special: Mapping[str, str] = {**OUTPUTS, **(KERAS_OUTPUTS if format == "keras" else {})}
    if head != "masked_lm" and format == "keras":
        special = {**special, "head.dense.kernel": "head.tanh.output"}
    for ours, names in _parameters(format, head).items():
        place, _, last = ours.rpartition(".")
        if ours in special or last in ("kernel", "gamma"):
            value = special.get(ours, f"{place}.output")
            modules = (re.fullmatch(r"(.*)[./](weight|kernel|gamma|embeddings)", name) for name, _ in names)
            found.setdefault(value, []).extend(module[1] for module in modules if module)
    for value, more in MORE[format].items():
        if value == "loss.logits" and head != "masked_lm":
            more = CLASSIFIER.get(format, ())
        found.setdefault(value, []).extend(more)
    return found
