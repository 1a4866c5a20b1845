"""The conformance suite has everything, our backends pass it, and a slip in any of its cases is found."""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from native_extension import needs_native
from suites import made

from pyroberta import Tokenizer
from pyroberta.cli.main import main
from pyroberta.cli.parser import command_module
from pyroberta.formats import safetensors_io
from pyroberta.model.batch import pack
from pyroberta.model.heads import HEADS
from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle.conformance import kinds, sampled, suite, text_cases, verdicts
from pyroberta.oracle.conformance.case import Case, Means
from pyroberta.oracle.conformance.suite import Suite
from pyroberta.oracle.plain import PLAIN
from pyroberta.text import masking, packing
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.training import losses, optimizers, schedules

EXAMPLES = Path(__file__).parents[2] / "docs" / "conformance"
LAYER_NORM = "op/layer_norm/usual"
SOME = (LAYER_NORM, "op/gelu/usual", "op/gelu/far", "op/linear/usual", "tokenize/text/plain", "decode/text/plain")


def only(*names: str) -> Suite:
    return replace(made(), cases={name: made().cases[name] for name in names})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite as it is written; nobody changes it."""
    path = tmp_path_factory.mktemp("conformance") / "suite"
    suite.write(made(), path)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with some of the cases; nobody changes it."""
    path = tmp_path_factory.mktemp("some") / "few"
    suite.write(only(*SOME), path)
    return path


@pytest.fixture
def few(written: Path, tmp_path: Path) -> Path:
    """A directory with some of the cases, which a test may damage."""
    return shutil.copytree(written, tmp_path / "few")


def subjects(kind: str) -> set[str]:
    return {case.subject for case in made().cases.values() if case.kind == kind}


def settings_of(kind: str, name: str) -> set[object]:
    return {case.settings[name] for case in made().cases.values() if case.kind == kind}


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_every_kind_has_cases_and_a_line_in_the_readme():
    assert {case.kind for case in made().cases.values()} == set(kinds.KINDS)
    assert [kind for kind in kinds.KINDS if not re.search(rf"^\| `{kind}` \|", suite.readme(), re.M)] == []


def test_every_op_optimizer_loss_schedule_and_head_has_cases():
    """One that is new needs cases: see docs/conformance.md."""
    assert subjects("op") == set(PLAIN)
    assert subjects("optimizer") == set(optimizers.OPTIMIZERS)
    assert subjects("loss") == set(losses.LOSSES)
    assert subjects("schedule") == set(schedules.SCHEDULES)
    assert subjects("head") == {*HEADS, "mean_pooling"}
    assert subjects("model") == set(HEADS)
    assert settings_of("loss", "reduction") == {None if name == "none" else name for name in losses.REDUCTIONS} - {"x"}
    assert settings_of("pack", "truncate") == set(packing.TRUNCATIONS)
    assert settings_of("mask", "count") == set(masking.COUNTS)


@pytest.mark.parametrize("op", PLAIN)
def test_every_op_has_its_output_all_gradients_and_all_that_is_inside(op: str):
    wanted = {"output", *(f"d.{of}" for of in PLAIN[op].gradients)}
    inside = {*PLAIN[op].formulas} - {"keep", "output"}
    given: set[str] = set()
    for case in made().cases.values():
        if case.name.startswith(f"op/{op}/"):
            assert wanted <= set(case.expected)
            given |= {name.removesuffix(".0") for name in case.inside}
    assert inside <= given


def test_the_page_names_every_kind_and_says_about_how_many_cases_there_are():
    page = (EXAMPLES.parent / "conformance.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ", page, re.M)
    assert sorted(name for row in rows for name in re.findall(r"\w+", row)) == sorted(kinds.KINDS)
    assert f"about {round(len(made().cases), -2)} cases" in page


def test_edges_are_there():
    shapes = [np.shape(value) for case in made().cases.values() for value in case.inputs.values()]
    assert any(0 in shape for shape in shapes)  # no rows, no targets
    assert {shape for shape in shapes if shape == (1, 1)}
    norms = [case.inputs["x"] for case in made().cases.values() if case.subject == "layer_norm"]
    assert any(x.shape[1] == 1 for x in norms)
    assert any(0.0 < np.abs(x).max() < np.finfo(np.float32).tiny for x in norms)  # subnormal numbers
    masks = [case.inputs["padding_mask"] for case in made().cases.values() if "padding_mask" in case.inputs]
    assert any(not mask[:, 0].all() and mask[:, -1].all() for mask in masks)  # on the left alone
    assert any(mask[:, 0].all() and not mask[:, -1].all() for mask in masks)  # on the right alone
    assert any((mask.sum(axis=1) == 0).any() for mask in masks)
    weights = [case.inputs["weights"] for case in made().cases.values() if case.kind == "loss"]
    assert any((w == 0.0).all() for w in weights)
    assert max(w.max() for w in weights) > 1e29
    assert any(0.0 < w.max() < 1e-29 for w in weights)


def test_the_side_of_the_padding_changes_nothing():
    means = Means(REFERENCE, np.float64, made().tokenizer)
    for side in ("left", "both", "between"):
        case = made().cases[f"model/masked_lm/padded_{side}"]
        ids, is_token, columns = (case.inputs[of] for of in ("token_ids", "padding_mask", "mask_positions"))
        to_right = np.argsort(~is_token, axis=1, kind="stable")
        places = np.take_along_axis(is_token.cumsum(axis=1) - 1, columns, axis=1)
        moved = {
            "token_ids": np.take_along_axis(ids, to_right, axis=1),
            "padding_mask": np.take_along_axis(is_token, to_right, axis=1),
            "mask_positions": places.astype(np.int32),
        }
        assert not np.array_equal(moved["padding_mask"], is_token)
        same = kinds.KINDS["model"].answer(replace(case, inputs={**case.inputs, **moved}), means)
        for name, value in case.expected.items():
            np.testing.assert_array_equal(same[name], value)


def test_float32_begins_with_the_same_inputs_and_bounds_are_finite():
    for case in made().cases.values():
        for name, value in case.inputs.items():
            assert value.dtype.name in ("float32", "int32", "int64", "uint64", "bool"), (case.name, name)
            if value.dtype.kind == "f":
                assert np.isfinite(value).all()
        for name, bound in case.bounds.items():
            assert np.isfinite(bound).all(), (case.name, name)
            assert (bound >= 0.0).all()
            assert bound.shape == case.expected[name].shape
        for name, value in case.expected.items():
            assert np.isfinite(value).all()
            is_exact = name not in case.bounds
            assert is_exact == (kinds.KINDS[case.kind].bound == "exact"), (case.name, name)
            assert is_exact or value.dtype == np.float64


def test_the_masking_rule_is_the_preprocessors():
    tokenizer = Tokenizer.from_preset("roberta_tiny_en")
    preprocessor = MaskedLMPreprocessor(tokenizer, mask_selection_rate=0.3)
    sequences = [np.array(tokenizer.encode(text), np.int32) for text in ("A dog barks at the moon.", "It is late. Go!")]
    batch, draws = pack(sequences), np.random.default_rng(0).random((sum(map(len, sequences)), 3)).astype(np.float32)
    is_candidate = ~tokenizer.is_special[batch.ids]
    words = np.where(is_candidate, np.cumsum(is_candidate) - 1, -1)
    settings = {**text_cases.USUAL, "mask_selection_rate": 0.3, "mask_id": tokenizer.mask_token_id}
    inputs = {
        "ids": batch.ids,
        "starts": batch.starts,
        "words": words,
        "ordinary": tokenizer.ordinary_ids,
        "draws": draws,
    }
    found = text_cases.mask(
        Case("mask/rule/x", "", "", settings, inputs=inputs), Means(REFERENCE, np.float64, tokenizer)
    )
    masked = preprocessor.mask_batch(batch, draws.astype(np.float64))
    assert found["masked_ids"].tolist() == masked.ids.tolist()
    assert found["target_rows"].tolist() == masked.target_rows.tolist()


# --- the directory ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_suite_is_the_same_bytes_each_time_and_small(directory: Path, tmp_path: Path):
    suite.write(kinds.make(), tmp_path / "again")
    files = sorted(file.relative_to(directory) for file in directory.rglob("*") if file.is_file())
    assert [str(file) for file in files if file.parent == Path()] == ["README.md", "suite.json", "tensors.safetensors"]
    assert filecmp.cmpfiles(directory, tmp_path / "again", map(str, files), shallow=False)[0] == [*map(str, files)]
    assert sum((directory / file).stat().st_size for file in files) < 8_000_000


def test_another_seed_has_other_inputs_and_the_same_cases():
    one, other = (kinds.make(seed, only="op/gelu") for seed in (0, 1))
    assert list(one.cases) == list(other.cases)
    x, y = (made.cases["op/gelu/usual"].inputs["x"] for made in (one, other))
    assert not np.array_equal(x, y)


def test_what_is_written_is_read_again(directory: Path):
    again = suite.read(directory)
    assert list(again.cases) == list(made().cases)
    assert (again.seed, again.precision) == (0, "float32")
    assert again.tokenizer.vocabulary == made().tokenizer.vocabulary
    for name, case in made().cases.items():
        other = again.cases[name]
        assert json.loads(json.dumps(dict(case.settings))) == dict(other.settings)
        for role in ("inputs", "expected", "bounds"):
            mine, theirs = getattr(case, role), getattr(other, role)
            assert set(mine) == set(theirs)
            assert all(np.array_equal(mine[of], theirs[of]) for of in mine)


def test_numbers_lie_aligned_so_that_c_may_point_at_them(directory: Path):
    content = (directory / suite.TENSORS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    sizes = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U8": 1, "BOOL": 1}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % sizes[entry["dtype"]] == 0
            assert f"{entry['dtype']}" in suite.readme()


def test_a_case_is_a_line_for_every_reader(directory: Path):
    lines = (directory / suite.CASES).read_text("utf-8").splitlines()
    assert len(lines) == len(made().cases) + 2
    assert [json.loads(line.rstrip(","))["name"] for line in lines[1:-1]] == list(made().cases)


def test_files_of_others_in_a_suites_directory_stay(few: Path):
    (few / "mine.npz").write_text("x")
    (few / suite.TOKENIZER / "old.txt").write_text("x")
    suite.write(only(LAYER_NORM), few)
    assert sorted(file.name for file in few.iterdir()) == [
        "README.md",
        "mine.npz",
        "suite.json",
        "tensors.safetensors",
        "tokenizer",
    ]
    assert not (few / suite.TOKENIZER / "old.txt").exists()
    assert list(suite.read(few).cases) == [LAYER_NORM]


def test_nothing_but_a_suite_is_replaced(tmp_path: Path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"no suite\.json, so it is not a conformance suite"):
        suite.write(kinds.make(only="pack/"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def rewritten(path: Path, change: Callable[[str], str]) -> None:
    (path / suite.CASES).write_text(change((path / suite.CASES).read_text("utf-8")), "utf-8")


def with_tensors(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Rewrites the tensors, with the digest that they then have."""
    from hashlib import sha256

    file = path / suite.TENSORS
    tensors = {name: stored.array() for name, stored in safetensors_io.read(file).items()}
    before = sha256(file.read_bytes()).hexdigest()
    change(tensors)
    with safetensors_io.Appended(file) as appended:
        for name, array in tensors.items():
            appended.add(name, array)
    rewritten(path, lambda text: text.replace(before, sha256(file.read_bytes()).hexdigest()))


def flip(path: Path) -> None:
    content = bytearray((path / suite.TENSORS).read_bytes())
    content[-1] ^= 1
    (path / suite.TENSORS).write_bytes(bytes(content))


def cut(path: Path) -> None:
    content = (path / suite.TENSORS).read_bytes()
    (path / suite.TENSORS).write_bytes(content[: len(content) // 2])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (flip, "is not the file that suite.json was written with"),
    "cut short": (cut, "is not the file that suite.json was written with"),
    "no tensors": (lambda path: (path / suite.TENSORS).unlink(), r"has no tensors\.safetensors"),
    "no cases": (lambda path: (path / suite.CASES).unlink(), r"has no suite\.json"),
    "no JSON": (lambda path: rewritten(path, lambda text: text[:-20]), "isn't valid JSON"),
    "another format": (
        lambda path: rewritten(path, lambda text: text.replace(suite.FORMAT, "album")),
        "its format should be .*, got 'album'",
    ),
    "another version": (
        lambda path: rewritten(path, lambda text: text.replace('"version": 1', '"version": 2', 1)),
        "has version 2, and this package reads version 1",
    ),
    "cases are no list": (
        lambda path: (path / suite.CASES).write_text(
            re.sub(r'"cases": \[.*', '"cases": 3}', (path / suite.CASES).read_text("utf-8"), flags=re.S), "utf-8"
        ),
        "is not a valid suite",
    ),
    "a name that leads elsewhere": (
        lambda path: rewritten(path, lambda text: text.replace(f'"{LAYER_NORM}"', '"../layer_norm/usual"')),
        "a case's name should be kind/subject/variant",
    ),
    "a case twice": (
        lambda path: rewritten(path, lambda text: text.replace('"op/gelu/far"', '"op/gelu/usual"', 1)),
        "has the case 'op/gelu/usual' twice",
    ),
    "a tensor that is missing": (
        lambda path: with_tensors(path, lambda tensors: tensors.pop(f"{LAYER_NORM}/inputs/x")),
        "lacks op/layer_norm/usual/inputs/x",
    ),
    "a bound below 0": (
        lambda path: with_tensors(path, lambda t: t.update({f"{LAYER_NORM}/bounds/d.x": -np.ones((5, 12))})),
        "should be finite float64 from 0 up",
    ),
    "a bound that is no number": (
        lambda path: with_tensors(path, lambda t: t.update({f"{LAYER_NORM}/bounds/d.x": np.full((5, 12), np.nan)})),
        "should be finite float64 from 0 up",
    ),
    "a bound of another shape": (
        lambda path: with_tensors(path, lambda t: t.update({f"{LAYER_NORM}/bounds/d.x": np.ones((1, 1))})),
        r"of the shape \(5, 12\)",
    ),
    "a bound that has no end": (
        lambda path: with_tensors(path, lambda t: t.update({f"{LAYER_NORM}/bounds/d.x": np.full((5, 12), np.inf)})),
        "should be finite float64 from 0 up",
    ),
    "a number that would take all memory": (
        lambda path: rewritten(path, lambda text: text.replace('"epsilon": 1e-05', '"count": 9000000000')),
        "the setting count of .* should be at most 1,000,000, got 9000000000",
    ),
    "a shape that would": (
        lambda path: rewritten(path, lambda text: text.replace('"epsilon": 1e-05', '"shape": [9000, 9000]')),
        "the setting shape of .* should be at most 1,000,000, got 81000000",
    ),
    "another vocabulary": (
        lambda path: (path / suite.TOKENIZER / "merges.txt").write_text("#version: 0.2\na b\n", "utf-8"),
        r"merges\.txt is not the file that suite\.json was written with",
    ),
    "another precision": (
        lambda path: rewritten(path, lambda text: text.replace('"precision": "float32"', '"precision": "int8"')),
        "its precision should be one of float32, float64, got 'int8'",
    ),
    "no tokenizer": (lambda path: shutil.rmtree(path / suite.TOKENIZER), "tokenizer"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_suite_is_refused_with_the_reason(damage: str, few: Path):
    change, reason = DAMAGE[damage]
    change(few)
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        suite.read(few)


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ('"epsilon": 1e-05', '"epsilon": "x"', "the inputs and settings of .* do not fit the kind op"),
        ('"pair": null, ', "", r"settings of tokenize/text/plain do not fit the kind tokenize \(KeyError: 'pair'\)"),
        ('"name": "decode/', '"name": "recode/', "tensors.safetensors lacks recode/text/plain/"),
    ],
)
def test_settings_of_no_case_are_refused_by_name(right: str, wrong: str, reason: str, few: Path):
    rewritten(few, lambda text: text.replace(right, wrong))
    with pytest.raises(ValueError, match=reason):
        kinds.answers(suite.read(few), "numpy")


def test_a_kind_of_a_later_version_is_refused_by_run_alone(few: Path):
    given = suite.read(few)
    later = replace(given, cases={"sing/song/usual": replace(given.cases[LAYER_NORM], name="sing/song/usual")})
    with pytest.raises(ValueError, match="the kind of the case sing/song/usual should be one of tokenize, decode"):
        kinds.answers(later, "numpy")


# --- who passes -------------------------------------------------------------------------------------------------------


def test_numpy_passes_in_both_precisions():
    for dtype in (np.float32, np.float64):
        report = verdicts.judge(made(), kinds.answers(made(), "numpy", dtype))
        assert report.count("passed") == len(made().cases), str(report)
        assert report.incomplete == ()
        assert report.unknown == ()


@needs_native
@pytest.mark.parametrize("backend", ["native", "native-blas"])
def test_the_backends_in_cpp_pass(backend: str):
    report = verdicts.judge(made(), kinds.answers(made(), backend))
    assert report.count("passed") == len(made().cases), str(report)


def test_bfloat16_is_beyond_the_bounds():
    ops = only(*(name for name in made().cases if name.startswith("op/")))
    answers = kinds.answers(ops, "numpy")
    rounded = {name: (value.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, value in answers.items()}
    report = verdicts.judge(ops, rounded)
    assert report.count("failed") > len(ops.cases) / 2


def test_sampled_bounds_allow_what_a_single_ops_bound_allows():
    from pyroberta.oracle import bounds

    rng = np.random.default_rng(0)
    x, gamma, beta, dy = rng.normal(size=(6, 9)), rng.normal(size=9), rng.normal(size=9), rng.normal(size=(6, 9))

    def compute(ops: Ops) -> dict[str, np.ndarray]:
        y, cache = ops.layer_norm_forward(x, gamma, beta, 1e-5)
        return {"y": y, **dict(zip(("dx", "dgamma", "dbeta"), ops.layer_norm_backward(dy, cache), strict=True))}

    derived = bounds.layer_norm(bounds.Arithmetic.of_others("float32"), x, gamma, beta, 1e-5, dy=dy)
    for name, bound in sampled.sampled(compute, "float32")[1].items():
        assert (bound > derived[name]).all()
        assert (bound < sampled.SPREAD * derived[name] + 1e-30).all()


# --- slips are found --------------------------------------------------------------------------------------------------


def slips(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """Each value with its first number beyond the bound, and with its last one."""
    for name, value in case.expected.items():
        if value.size == 0:
            continue
        for place in {(0,) * value.ndim, tuple(size - 1 for size in value.shape)}:
            changed = value.copy()
            if name in case.bounds:
                beyond = value[place] + 1.01 * case.bounds[name][place]
                changed[place] = max(beyond, np.nextafter(value[place], np.inf))
            elif value.dtype.kind == "f":
                changed[place] = np.nextafter(value[place], np.inf)
            else:
                changed[place] = value[place] ^ value.dtype.type(1)
            yield name, changed


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_slip_in_one_number_of_any_value_of_any_case_fails(kind: str):
    count = 0
    for case in made().cases.values():
        if case.kind != kind:
            continue
        assert verdicts.verdict_of(case, case.expected).status == "passed"
        for name, changed in slips(case):
            verdict = verdicts.verdict_of(case, {**case.expected, name: changed})
            assert (verdict.status, verdict.value) == ("failed", name), (case.name, name)
            assert verdict.ratio > 1.0
            assert name in verdict.complaint
            count += 1
    assert count > 5


def test_the_bounds_are_narrow_enough_to_find_small_slips():
    """Of each value in the case whose bounds are narrowest; hostile cases have wide ones."""
    found: dict[str, float] = {}
    for case in made().cases.values():
        for name, bound in case.bounds.items():
            of = re.sub(r"\d+", "#", f"{case.kind}/{case.subject}/{name}")
            with np.errstate(all="ignore"):
                least = np.where(case.expected[name] == 0.0, np.inf, bound / np.abs(case.expected[name]))
            found[of] = min(found.get(of, np.inf), least.min(initial=np.inf))
    most = {"model": 1e-4, "block": 3e-5, "head": 3e-5}
    # A key's bias has no influence, and the gradient by it is 0.
    wide = {of: least for of, least in found.items() if least > most.get(of.split("/")[0], 4e-6)}
    assert {of: least for of, least in wide.items() if not of.endswith(".attention.key.bias")} == {}


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return (0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))).astype(x.dtype)


def biased(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> tuple[np.ndarray, object]:
    x = x if x.shape[1] > 1 else np.repeat(x, 2, axis=1)
    y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, ddof=1, keepdims=True) + np.float32(epsilon))
    return gamma * y[:, : len(gamma)] + beta, None


def row(**rows: Callable[..., object]) -> Callable[[pytest.MonkeyPatch], None]:
    """A fault in some rows of the table."""
    return lambda patch: patch.setattr(kinds, "get_ops", lambda name: replace(REFERENCE, **rows))


def attribute(of: object, name: str, value: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(of, name, value)


def scaled(q: np.ndarray, k: np.ndarray, v: np.ndarray, starts: np.ndarray, num_heads: int, *rest: object) -> object:
    return REFERENCE.attention_forward(q * np.float32(np.sqrt(q.shape[1] // num_heads)), k, v, starts, num_heads, *rest)


def pairs(forward: str, change: Callable[..., object]) -> dict[str, Callable[..., object]]:
    """A forward whose output alone is changed, with the reference's cache."""
    plain = getattr(REFERENCE, forward)

    def call(*arguments: object) -> object:
        y, cache = plain(*arguments)
        return change(y, *arguments), cache

    return {forward: call}


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], list[str]]] = {
    "GELU by tanh": (row(**pairs("gelu_forward", lambda y, x: tanh_gelu(x))), ["op/gelu", "head/masked_lm"]),
    "a variance divided by C - 1": (
        row(**pairs("layer_norm_forward", lambda y, *given: biased(*given)[0])),
        ["op/layer_norm", "head/masked_lm", "model/masked_lm"],
    ),
    "no bias": (row(**pairs("linear_forward", lambda y, x, kernel, bias: x @ kernel)), ["op/linear", "block", "model"]),
    "scores that are not divided": (row(attention_forward=scaled), ["op/attention", "block", "model/text_classifier"]),
    "no gradient through the row's sum": (
        row(attention_backward=lambda dy, cache: tuple(1.001 * d for d in REFERENCE.attention_backward(dy, cache))),
        ["op/attention", "block/encoder_layer", "model/masked_lm"],
    ),
    "dropout that is not scaled up": (
        row(**pairs("dropout_forward", lambda y, x, rate, *rest: y * np.float32(1.0 - rate))),
        ["op/dropout", "model/masked_lm"],
    ),
    "label smoothing": (
        row(**pairs("cross_entropy_forward", lambda y, *rest: (y[0] * np.float32(0.9), y[1]))),
        ["op/cross_entropy", "head/masked_lm", "model/masked_lm", "loss"],
    ),
    "position 1 for the first token": (
        row(embedding_forward=lambda i, p, t, r: REFERENCE.embedding_forward(i, (p + 1) % len(r), t, r)),
        ["op/embedding", "model/masked_lm", "model/text_classifier"],
    ),
    "epsilon on the other side": (
        attribute(optimizers.Adam, "_uncorrected_epsilon", lambda self, c_2: self.epsilon * c_2),
        ["optimizer/adam", "optimizer/adamw"],
    ),
    "epsilon beside the uncorrected root": (
        attribute(optimizers.TorchAdam, "_uncorrected_epsilon", lambda self, c_2: self.epsilon),
        ["optimizer/torchadam", "optimizer/torchadamw"],
    ),
    "decay of everything": (
        attribute(optimizers.Optimizer, "decays", lambda self, name: True),
        ["optimizer/torchadamw"],
    ),
    "a schedule that is a step late": (
        attribute(schedules.Cosine, "__call__", lambda self, step: schedules.Linear.__call__(self, max(0, step - 1))),
        ["schedule/cosine"],
    ),
    "a mean over weights": (
        attribute(losses.SparseCategoricalCrossentropy, "denominator", lambda self, weights, count: weights),
        ["loss"],
    ),
    "<mask> that leaves its space": (
        lambda patch: patch.setattr(made().tokenizer, "mask_lstrip", False),
        ["tokenize/text"],
    ),
    "cut from the last segment": (
        attribute(text_cases, "pack_segments", lambda segments, **settings: (
            packing.pack_segments(segments, **{**settings, "truncate": "waterfall"})
        )),
        ["pack/round_robin"],
    ),
    "rounded down": (
        attribute(masking, "exact_count", lambda rate, n: np.maximum((rate * n).astype(np.int64), 1)),
        ["mask/rule"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_planted_in_the_code_fails_the_cases_of_what_it_is_in(
    fault: str, monkeypatch: pytest.MonkeyPatch
):
    plant, places = FAULTS[fault]
    plant(monkeypatch)
    concerned = [name for name in made().cases if name.startswith(tuple(places))]
    report = verdicts.judge(only(*concerned), kinds.answers(only(*concerned), "numpy"))
    failed = [verdict.case for verdict in report.verdicts if verdict.status == "failed"]
    assert [place for place in places if not any(name.startswith(place) for name in failed)] == [], str(report)


# --- what another implementation gave ---------------------------------------------------------------------------------


def test_missing_cases_and_values_are_told_and_do_not_fail():
    report = verdicts.judge(made(), {f"{LAYER_NORM}/output": made().cases[LAYER_NORM].expected["output"]})
    assert (report.count("passed"), report.count("failed"), report.count("missing")) == (1, 0, len(made().cases) - 1)
    (verdict,) = (one for one in report.verdicts if one.case == LAYER_NORM)
    assert set(verdict.lacking) == {"d.x", "d.gamma", "d.beta"}
    assert len(report.incomplete) == len(made().cases)
    assert "1 cases lack values, such as op/layer_norm/usual/d." in str(report)


def test_values_inside_an_op_are_judged_where_they_are_given_and_not_missed_else():
    case = made().cases[LAYER_NORM]
    asked = {f"{LAYER_NORM}/{name}": value for name, value in case.expected.items() if name not in case.inside}
    assert verdicts.judge(only(LAYER_NORM), asked).incomplete == ()
    wrong = {f"{LAYER_NORM}/variance": case.expected["variance"] * 1.1}
    (verdict,) = verdicts.judge(only(LAYER_NORM), {**asked, **wrong}).verdicts
    assert (verdict.status, verdict.value) == ("failed", "variance")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (np.zeros((5, 11)), r"output has the shape \(5, 11\), and \(5, 12\) is expected"),
        (np.full((5, 12), np.nan), r"output\[0, 0\] is nan, and .* is expected: inf times the bound; 60 of 60"),
        (np.full((5, 12), np.inf), r"inf times the bound"),
        (np.zeros((5, 12), np.complex128), "output has the dtype complex128; it should be an array of real numbers"),
    ],
)
def test_what_can_not_be_right_fails_with_the_reason(value: np.ndarray, complaint: str):
    (verdict,) = verdicts.judge(only(LAYER_NORM), {f"{LAYER_NORM}/output": value}).verdicts
    assert verdict.status == "failed"
    assert re.search(complaint, verdict.complaint), verdict.complaint


def test_an_exact_value_that_differs_is_named():
    name = "tokenize/text/plain"
    ids = made().cases[name].expected["ids"].copy()
    ids[2] += 1
    (verdict,) = verdicts.judge(only(name), {f"{name}/ids": ids}).verdicts
    assert verdict.complaint == f"ids[2] is {ids[2]}, and {ids[2] - 1} is expected"
    assert verdict.ratio == np.inf


def test_names_that_are_nobodys_are_told_and_a_file_of_them_alone_is_refused():
    right = {
        f"{LAYER_NORM}/output": made().cases[LAYER_NORM].expected["output"],
        "op/layernorm/usual/output": np.ones(1),
    }
    report = verdicts.judge(made(), right)
    assert report.unknown == ("op/layernorm/usual/output",)
    assert "1 names belong to no value of the suite, such as 'op/layernorm/usual/output'" in str(report)
    with pytest.raises(
        ValueError,
        match="none of the names is that of a value in the suite: there is 'a'; the suite has 'tokenize/",
    ):
        verdicts.judge(made(), {"a": np.ones(1)})


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["safetensors", "npz", "npy"])
def test_what_an_implementation_wrote_is_judged_in_any_form(
    form: str, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    answers = kinds.answers(only(LAYER_NORM, "op/gelu/far"), "numpy")
    theirs = tmp_path / f"theirs.{form}"

    def save(values: dict[str, np.ndarray]) -> None:
        if form == "npz":
            np.savez(theirs, **values)
        elif form == "npy":
            for name, value in values.items():
                (theirs / name).parent.mkdir(parents=True, exist_ok=True)
                np.save(theirs / f"{name}.npy", value)
        else:
            with safetensors_io.Appended(theirs) as file:
                for name, value in values.items():
                    file.add(name, value)

    save(answers)
    assert main(["conformance", "judge", str(few), str(theirs)]) == 0
    assert f"2 passed, 0 failed, {len(SOME) - 2} missing" in capsys.readouterr().out
    assert main(["conformance", "judge", str(few), str(theirs), "--complete"]) == 1
    capsys.readouterr()
    save({**answers, "op/gelu/far/output": tanh_gelu(made().cases["op/gelu/far"].inputs["x"])})
    assert main(["conformance", "judge", str(few), str(theirs), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["passed"], result["failed"]) == (1, 1)
    assert [case["case"] for case in result["cases"] if case["status"] == "failed"] == ["op/gelu/far"]
    save({"tokenize/text/plain/ids": np.zeros(12, np.int32)})  # its ratio is infinite, which JSON has no number for
    assert main(["conformance", "judge", str(few), str(theirs), "--json", "--only", "tokenize"]) == 1
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["failed"] == 1


def test_a_suite_is_made_run_and_not_replaced_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    some = only(LAYER_NORM)
    monkeypatch.setattr(kinds, "make", lambda seed, precision: replace(some, seed=seed, precision=precision))
    path = str(tmp_path / "made")
    assert main(["conformance", "make", path, "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] == 1
    assert (suite.read(path).seed, suite.read(path).precision) == (3, "float32")
    assert main(["conformance", "make", path]) == 2
    assert "exists already. Give another directory, or --overwrite" in capsys.readouterr().err
    assert main(["conformance", "--json", "make", path, "--overwrite"]) == 0
    ours = str(tmp_path / "ours.safetensors")
    capsys.readouterr()
    assert main(["conformance", "run", path, "--backend", "numpy", "--output", ours]) == 0
    assert "1 passed, 0 failed, 0 missing" in capsys.readouterr().out
    assert main(["conformance", "judge", path, ours, "--complete"]) == 0
    assert main(["conformance", "run", path, "--output", ours]) == 2
    assert main(["conformance", "run", str(tmp_path / "nowhere")]) == 2
    assert "`pyroberta conformance make" in capsys.readouterr().err


def test_the_cases_of_one_op_can_be_looked_at_alone(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    theirs = str(tmp_path / "ours.safetensors")
    assert main(["conformance", "run", str(few), "--output", theirs]) == 0
    capsys.readouterr()
    assert main(["conformance", "judge", str(few), theirs, "--only", "op/gelu", "--complete", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] == 2
    assert main(["conformance", "judge", str(few), theirs, "--only", "op/gela"]) == 2
    assert (
        "no name of a case begins with 'op/gela'; the cases are of op/layer_norm, op/gelu, " in capsys.readouterr().err
    )


@pytest.mark.parametrize("action", ["make", "judge", "run"])
def test_help_says_what_every_argument_of_an_action_is(action: str, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stopped:
        main(["conformance", action, "--help"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert out.startswith(f"usage: pyroberta conformance {action} ")
    assert "None" not in out
    assert "False" not in out


def test_a_suite_for_float64_is_narrower_and_ours_pass():
    narrow = kinds.make(precision="float64", only="op/")
    assert narrow.cases[LAYER_NORM].bounds["d.x"].max() < 1e-6 * made().cases[LAYER_NORM].bounds["d.x"].max()
    report = verdicts.judge(narrow, kinds.answers(narrow, "numpy"))
    assert report.count("passed") == len(narrow.cases), str(report)
    assert verdicts.judge(narrow, kinds.answers(narrow, "numpy", np.float32)).count("failed") > len(narrow.cases) / 2
    assert command_module("conformance").PRECISIONS == suite.PRECISIONS
    with pytest.raises(ValueError, match="precision should be one of float32, float64, got 'float16'"):
        kinds.make(precision="float16")


def test_a_case_that_fails_gives_exit_code_1_to_run(
    few: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        kinds, "get_ops", lambda name: replace(REFERENCE, **pairs("gelu_forward", lambda y, x: y * 1.01))
    )
    assert main(["conformance", "run", str(few), "--backend", "numpy"]) == 1
    assert re.search(r"FAILED op/gelu/usual: output\[\d+, \d+\] is", capsys.readouterr().out)


# --- in other languages -----------------------------------------------------------------------------------------------


def compiled(directory: Path, source: str) -> list[str]:
    """A C compiler's program; a test is only drawn where there is one."""
    (directory / "check.c").write_text(source, "utf-8")
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1"]
    program = str(directory / "check")
    subprocess.run([str(COMPILER), *flags, "-o", program, str(directory / "check.c"), "-lm"], check=True)
    return [program]


def script(directory: Path, source: str) -> list[str]:
    (directory / "check.mjs").write_text(source, "utf-8")
    return [str(shutil.which("node")), str(directory / "check.mjs")]


def node_version() -> int:
    if not shutil.which("node"):
        return 0
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    return int(found[1]) if (found := re.match(r"v(\d+)", version)) else 0


COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
# What is on this machine: the source, how it becomes a command, and faults to plant in it.
RUNNERS: dict[str, tuple[Callable[[Path, str], list[str]], dict[str, tuple[str, str]]]] = {}
if COMPILER:
    RUNNERS["check.c"] = (
        compiled,
        {
            "variance divided by C - 1": ("variance /= (float)C;", "variance /= (float)C - 1.0f;"),
            "GELU's cdf by 1 + erf": ("0.5f * erfcf(-x[i] * 0.70710678f)", "0.5f * (1.0f + tanhf(0.8f * x[i]))"),
            "the kernel transposed": ("kernel, 1, O, N, O, I)", "kernel, O, 1, N, O, I)"),
            "no bias": ("y[i] += bias[i % O];", "(void)bias;"),
        },
    )
if node_version() >= 18:
    RUNNERS["check.mjs"] = (
        script,
        {
            "the last of equal ranks first": ("if (rank < lowest)", "if (rank <= lowest && rank < Infinity)"),
            "letters by ASCII": ("?\\\\p{L}+| ?\\\\p{N}+|", "?[A-Za-z]+| ?[0-9]+|"),
            "<mask> leaves its space": ("pieces[i + 1] === this.mask ?", "pieces[i + 1] === 0 ?"),
        },
    )


@pytest.mark.parametrize("name", RUNNERS)
def test_an_example_in_another_language_passes(name: str, directory: Path, tmp_path: Path):
    command = RUNNERS[name][0](tmp_path, (EXAMPLES / name).read_text("utf-8"))
    done = subprocess.run([*command, str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    count = {"check.c": "22 cases, 0 values beyond their bounds", "check.mjs": "69 passed, 0 failed"}[name]
    assert count in done.stdout


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in RUNNERS for fault in RUNNERS[name][1]])
def test_a_fault_that_is_planted_in_an_example_fails(name: str, fault: str, directory: Path, tmp_path: Path):
    make, faults = RUNNERS[name]
    right, wrong = faults[fault]
    source = (EXAMPLES / name).read_text("utf-8")
    assert source.count(right) == 1
    command = make(tmp_path, source.replace(right, wrong))
    done = subprocess.run([*command, str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("inputs/x", np.zeros((7, 12), np.float32)),
        ("inputs/gamma", np.zeros(3, np.float32)),
        ("inputs/dy", np.zeros((1, 1), np.float32)),
        ("expected/d.x", np.zeros((5, 13))),
        ("bounds/d.gamma", np.zeros(1)),
        ("expected/d.beta", np.zeros(12, np.float32)),
        ("inputs/beta", np.zeros(12, np.int32)),
    ],
)
def test_the_example_in_c_does_not_read_beyond_a_tensor_of_another_shape(name, array, few: Path, tmp_path: Path):
    command = compiled(tmp_path, (EXAMPLES / "check.c").read_text("utf-8"))
    with_tensors(few, lambda tensors: tensors.update({f"{LAYER_NORM}/{name}": array}))
    done = subprocess.run([*command, str(few)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.fullmatch(r"\S+: is (no|of another|neither) .*\n", done.stderr)


@pytest.mark.parametrize("name", RUNNERS)
def test_an_example_fails_on_a_suite_whose_values_are_wrong_or_cut_short(name: str, few: Path, tmp_path: Path):
    command = RUNNERS[name][0](tmp_path, (EXAMPLES / name).read_text("utf-8"))
    changed = {
        f"{LAYER_NORM}/expected/d.x": np.zeros((5, 12)),
        "tokenize/text/plain/expected/ids": np.zeros(12, np.int32),
    }
    with_tensors(few, lambda tensors: tensors.update(changed))
    done = subprocess.run([*command, str(few)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(rf"(?m)^FAILED tokenize/text/plain|^{LAYER_NORM} +d\.x .*FAILED", done.stdout)
    cut(few)
    done = subprocess.run([*command, str(few)], capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_values_that_are_given_twice_or_in_too_few_digits_are_refused():
    whole = made()
    name = next(name for name in whole.values if name.startswith("random/words/"))
    case, value = whole.values[name]
    right = case.expected[value]
    assert right.dtype == np.uint64
    assert verdicts.judge(whole, {name: right}).count("failed") == 0
    assert verdicts.judge(whole, {name: right.astype(np.float64)}).count("failed") == 1
    with pytest.raises(ValueError, match=r"are both .*; leave one out"):
        verdicts.judge(whole, {name: right, name.replace("/", "."): right})
    with pytest.raises(ValueError, match="there are no tensors"):
        verdicts.judge(whole, {})
