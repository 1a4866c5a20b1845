"""Others pass the conformance suite: torch's ops, optimizers and schedules, transformers' models, Keras's losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyroberta.oracle.conformance import kinds, suite, verdicts
from pyroberta.oracle.conformance.case import Case
from pyroberta.oracle.conformance.suite import Suite

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

Values = dict[str, Any]


@pytest.fixture(scope="module")
def made() -> Suite:
    return kinds.make()


def hold(
    made: Suite, prefix: str, answer: Callable[[Case], Values | None], least: int, departing: tuple[str, ...] = ()
) -> None:
    """Each case of these that an answer is given for passes, with all values that are asked for; some alone don't."""
    answers = {case.name: answer(case) for case in made.cases.values() if case.name.startswith(prefix)}
    given = {f"{name}/{of}": value for name, found in answers.items() if found for of, value in found.items()}
    report = verdicts.judge(made, {name: np.asarray(value) for name, value in given.items()})
    assert tuple(verdict.case for verdict in report.verdicts if verdict.status == "failed") == departing, str(report)
    assert report.count("passed") >= least
    assert [verdict.case for verdict in report.verdicts if verdict.lacking] == []


# --- ops, by torch's functions and autograd ---------------------------------------------------------------------------


def attended(case: Case, a: Mapping[str, Any]) -> Any:
    """Heads side by side, sequence by sequence."""
    import torch

    H, parts = case.settings["num_heads"], []
    for b, (start, stop) in enumerate(pairwise(case.inputs["starts"].tolist())):
        q, k, v = (a[of][start:stop].unflatten(1, (H, -1)).transpose(0, 1) for of in ("q", "k", "v"))
        p = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), dim=-1)
        p = dropped(case, p, f"keep.{b}")
        parts.append((p @ v).transpose(0, 1).flatten(1))
    return torch.cat(parts)


def dropped(case: Case, x: Any, keep: str = "keep") -> Any:
    import torch

    return x * torch.from_numpy(case.inputs[keep]) / (1.0 - case.settings["rate"]) if keep in case.inputs else x


def torch_op(case: Case) -> Values | None:
    import torch
    from torch.nn import functional

    a = {of: torch.from_numpy(np.array(value)) for of, value in case.inputs.items() if value.dtype != np.uint64}
    a = {of: value.requires_grad_() if value.is_floating_point() else value.long() for of, value in a.items()}

    def norm(x: Any) -> Any:
        return functional.layer_norm(x, x.shape[1:], a["gamma"], a["beta"], case.settings["epsilon"])

    ops: dict[str, Callable[[], Any]] = {
        "gather": lambda: a["x"][a["rows"]],
        "embedding": lambda: (
            functional.embedding(a["ids"], a["tokens"]) + functional.embedding(a["positions"], a["position_rows"])
        ),
        "linear": lambda: functional.linear(a["x"], a["kernel"].T, a["bias"]),
        "low_rank": lambda: case.settings["scale"] * (a["x"] @ a["a"] @ a["b"]),
        "gelu": lambda: functional.gelu(a["x"]),
        "tanh": lambda: torch.tanh(a["x"]),
        "feed_forward": lambda: functional.gelu(a["x"] @ a["kernel_1"] + a["bias_1"]) @ a["kernel_2"] + a["bias_2"],
        "layer_norm": lambda: norm(a["x"]),
        "dropout": lambda: dropped(case, a["x"]),
        "add_norm": lambda: norm(a["x"] + dropped(case, a["h"])),
        "attention": lambda: attended(case, a),
        "cross_entropy": lambda: functional.cross_entropy(
            a["h"] @ a["table"].T + a["bias"], a["labels"], reduction="none"
        ),
    }
    y = ops[case.subject]()
    wanted = [of.removeprefix("d.") for of in case.expected if of.startswith("d.") and of not in case.inside]
    gradients = torch.autograd.grad(y, [a[of] for of in wanted], a["dy"].detach(), allow_unused=True)
    found = {f"d.{of}": gradient.numpy() for of, gradient in zip(wanted, gradients, strict=True)}
    return {"output": y.detach().numpy(), **found}


def test_torch_is_within_the_bounds_of_every_op_but_for_a_norm_of_one_column(made: Suite):
    """For gamma's gradient, torch 2.13 makes x̂ as x · rstd + b, fused, which is not 0 where x is the mean."""
    count = len([name for name in made.cases if name.startswith("op/")])
    hold(made, "op/", torch_op, count - 1, departing=("op/layer_norm/one_column",))


# --- models -----------------------------------------------------------------------------------------------------------


def hf_model(case: Case) -> Values | None:
    import torch
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification

    from pyroberta.oracle.names import names_of

    if "key" in case.inputs:  # dropout, for which transformers takes no masks
        return None
    config, inputs = case.settings["config"], case.inputs
    is_classifier = config["num_classes"] is not None
    is_tied = config["tie_embeddings"]
    theirs = RobertaConfig(
        vocab_size=config["vocabulary_size"], hidden_size=config["hidden_dim"], num_labels=config["num_classes"] or 2,
        num_hidden_layers=config["num_layers"], num_attention_heads=config["num_heads"], type_vocab_size=1,
        intermediate_size=config["intermediate_dim"], max_position_embeddings=config["max_sequence_length"] + 2,
        pad_token_id=1, layer_norm_eps=config["layer_norm_epsilon"], tie_word_embeddings=is_tied,
    )  # fmt: skip
    model = (RobertaForSequenceClassification if is_classifier else RobertaForMaskedLM)(theirs).eval()
    params = dict(model.named_parameters())
    ours = {of.removeprefix("parameters."): value for of, value in inputs.items() if of.startswith("parameters.")}
    heads = {
        "head.dense.kernel": "classifier.dense.weight",
        "head.dense.bias": "classifier.dense.bias",
        "head.table": "classifier.out_proj.weight",
        "head.bias": "classifier.out_proj.bias",
    }
    if not is_classifier:
        heads = {"head.bias": "lm_head.bias" if is_tied else "lm_head.decoder.bias"}
    named = {of: heads.get(of) or names_of(f"parameters.{of}")["hf"] for of in ours}
    kernels = [of for of in ours if of.endswith(".kernel")]
    with torch.no_grad():
        for of, value in ours.items():
            if of == "embeddings.position":
                params[named[of]][2:] = torch.from_numpy(value)
            else:
                params[named[of]][...] = torch.from_numpy(value.T if of in kernels else value)
        params["roberta.embeddings.token_type_embeddings.weight"].zero_()
    is_token = inputs["padding_mask"]
    ids, mask = torch.from_numpy(inputs["token_ids"]).long(), torch.from_numpy(is_token).long()
    some = is_token.any(axis=1)  # a row of padding alone is no sequence there
    # transformers goes by the ids for positions, so the mask is told by them
    positions = torch.cumsum(mask, 1) * mask + 1
    out = model(ids[some], mask[some], position_ids=positions[some], output_hidden_states=True)
    found = {f"hidden.{i}": x.detach().numpy()[is_token[some]] for i, x in enumerate(out.hidden_states)}
    weights = torch.from_numpy(inputs["weights"])
    if is_classifier:
        logits, labels, weights = out.logits, torch.from_numpy(inputs["labels"]).long()[some], weights[some]
    else:
        is_used = (weights > 0.0)[some]
        columns = torch.from_numpy(inputs["mask_positions"]).long()[some]
        logits = torch.take_along_dim(out.logits, columns[..., None], 1)[is_used]
        labels, weights = torch.from_numpy(inputs["labels"]).long()[some][is_used], weights[some][is_used]
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss = (weights * losses).sum() / weights.sum()
    loss.backward()
    found |= {"logits": logits.detach().numpy(), "losses": losses.detach().numpy(), "loss": loss.item()}
    for of in ours:
        gradient = params[named[of]].grad.numpy()
        gradient = gradient[2:] if of == "embeddings.position" else gradient
        found[f"gradients.{of}"] = gradient.T if of in kernels else gradient
    return found


def test_transformers_models_are_within_the_bounds_but_for_a_classifier_of_texts_padded_on_the_left(made: Suite):
    """Its head reads the first column, wherever the text begins; docs/conformance.md says so."""
    hold(made, "model/", hf_model, 9, departing=("model/text_classifier/padded_left",))


# --- losses, optimizers, schedules ------------------------------------------------------------------------------------


def keras_loss(case: Case) -> Values | None:
    import keras
    import torch

    config, inputs = dict(case.settings), case.inputs
    of = "logits" if config["from_logits"] else "probabilities"
    x = torch.tensor(inputs[of], requires_grad=True)
    loss = keras.losses.SparseCategoricalCrossentropy(**{**config, "reduction": config["reduction"] or "none"})
    y = loss(torch.tensor(inputs["labels"]), x, sample_weight=torch.tensor(inputs["weights"]))
    found = {"loss": y.detach().numpy()}
    if config["from_logits"] and config["reduction"]:
        y.backward()
        found["d.logits"] = x.grad.numpy()
    return found


def test_keras_losses_are_within_the_bounds(made: Suite):
    count = len([name for name in made.cases if name.startswith("loss/")])
    hold(made, "loss/", keras_loss, count)


def torch_optimizer(case: Case) -> Values | None:
    import torch

    config, decays = case.settings["config"], case.settings["decays"]
    if (
        not case.subject.startswith("torch")
        or isinstance(config["learning_rate"], dict)
        or config.get("global_clipnorm")
    ):
        return None  # torch adds 1e-6 to the norm
    names = list(decays)
    params = {of: torch.nn.Parameter(torch.tensor(case.inputs[f"parameters.{of}"])) for of in names}
    groups = [{"params": [params[of]], "weight_decay": config.get("weight_decay", 0.0) * decays[of]} for of in names]
    kind = torch.optim.AdamW if case.subject == "torchadamw" else torch.optim.Adam
    optimizer = kind(
        groups, lr=config["learning_rate"], betas=(config["beta_1"], config["beta_2"]), eps=config["epsilon"]
    )
    found = {}
    for step in range(case.settings["steps"]):
        for of, param in params.items():
            param.grad = torch.tensor(case.inputs[f"gradients.{step}.{of}"])
            if config.get("clipvalue"):
                param.grad.clamp_(-config["clipvalue"], config["clipvalue"])
            if config.get("clipnorm"):
                param.grad *= min(1.0, config["clipnorm"] / float(param.grad.norm()))
        optimizer.step()
        found |= {f"parameters.{step}.{of}": param.detach().clone().numpy() for of, param in params.items()}
    return found


def test_torchs_optimizers_are_within_the_bounds(made: Suite):
    hold(made, "optimizer/", torch_optimizer, 14)


def hf_schedule(case: Case) -> Values | None:
    import torch
    from transformers import optimization

    config = dict(case.settings)
    peak, warmup, total = config["learning_rate"], config.get("warmup_steps", 0), config.get("total_steps")
    if config.get("end_learning_rate") and case.subject != "polynomial":
        return None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    makers: dict[str, Callable[[], Any]] = {
        "constant": lambda: optimization.get_constant_schedule_with_warmup(optimizer, warmup),
        "linear": lambda: optimization.get_linear_schedule_with_warmup(optimizer, warmup, total),
        "cosine": lambda: optimization.get_cosine_schedule_with_warmup(optimizer, warmup, total),
        "polynomial": lambda: optimization.get_polynomial_decay_schedule_with_warmup(
            optimizer, warmup, total, lr_end=config["end_learning_rate"], power=config["power"]
        ),
    }
    factor = makers[case.subject]().lr_lambdas[0]
    ends = case.subject != "cosine"  # theirs rises again after its end
    steps = [int(step) if ends else min(int(step), total) for step in case.inputs["steps"]]
    return {"rates": np.array([peak * factor(step) for step in steps])}


def test_transformers_schedules_are_within_the_bounds(made: Suite):
    hold(made, "schedule/", hf_schedule, 10)


# --- texts ------------------------------------------------------------------------------------------------------------


def test_the_tokenizers_package_gives_the_same_ids_and_offsets_by_the_suites_own_file(made: Suite, tmp_path: Path):
    from tokenizers import Tokenizer

    suite.write(made, tmp_path / "suite")
    tokenizer = Tokenizer.from_file(str(tmp_path / "suite" / "tokenizer" / "tokenizer.json"))

    def answer(case: Case) -> Values | None:
        settings = case.settings
        if settings["add_prefix_space"]:
            return None
        found = tokenizer.encode(settings["text"], settings["pair"], add_special_tokens=settings["add_special_tokens"])
        return {"ids": found.ids, "offsets": np.array(found.offsets, np.int64).reshape(-1, 2)}

    hold(made, "tokenize/", answer, 50)

    def decoded(case: Case) -> Values:
        skip = case.settings["skip_special_tokens"]
        text = tokenizer.decode(case.inputs["ids"].tolist(), skip_special_tokens=skip)
        return {"utf8": np.frombuffer(text.encode(), np.uint8)}

    hold(made, "decode/", decoded, 14)
