"""What the package does otherwise than a peer's test claims, on purpose, with the reason.

The test that shows it is marked `@claims.differs` with the first of the sources. docs/coming_from_keras.md and
docs/coming_from_huggingface.md have this table; scripts/count_claims.py --write puts it there.
"""

from __future__ import annotations

from typing import NamedTuple

LOSSES = "keras/src/losses/losses_test.py::SparseCategoricalCrossentropyTest"
LOSS = "keras/src/losses/loss_test.py::LossTest"
METRIC = "keras/src/metrics/metric_test.py::MetricTest"
TRAINER = "keras/src/trainers/trainer_test.py::TestTrainer"
OPTIMIZER = "keras/src/optimizers/optimizer_test.py::OptimizerTest"
CALLBACKS = "keras/src/callbacks"
BOARD = f"{CALLBACKS}/tensorboard_test.py::TestTensorBoardV2"
SWAP = f"{CALLBACKS}/swap_ema_weights_test.py::SwapEMAWeightsTest"
ROBERTA = "keras_hub/src/models/roberta"
BYTES = "keras_hub/src/tokenizers/byte_pair_tokenizer_test.py::BytePairTokenizerTest"
MASKS = "keras_hub/src/layers/preprocessing/masked_lm_mask_generator_test.py::MaskedLMMaskGeneratorTest"
FILL = "transformers/tests/pipelines/test_pipelines_fill_mask.py::FillMaskPipelineTests"
COLLATOR = "transformers/tests/trainer/test_data_collator.py::NumpyDataCollatorIntegrationTest"


class Different(NamedTuple):
    """One behaviour: the peer's tests that claim another, what theirs does, what ours does, and why."""

    sources: tuple[str, ...]
    theirs: str
    ours: str
    why: str


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::{name}" for name in names)


DIFFERENT = (
    # ------------------------------------------------------------------------------------------------------------ Keras
    Different(
        _tests(TRAINER, "test_steps_per_execution_steps_count"),
        "`compile(steps_per_execution=n)` runs n steps in one compiled call, and batch hooks come every n steps",
        "1 is accepted, another number is refused",
        "no call is compiled, so that more steps in a call would save nothing",
    ),
    Different(
        _tests(
            TRAINER,
            "test_fit_with_custom_train_step",
            "test_evaluate_with_custom_test_step",
            "test_metric_update_in_compute_loss",
            "test_fwd_pass_loss_presence_in_compute_loss",
            "test_evaluate_with_custom_compute_loss",
            "test_compute_loss_no_training_backwards_compatibility",
        ),
        "a subclass may define `train_step`, `test_step` or `compute_loss`",
        "the definition of such a subclass is an error",
        "the backward is written by hand, so a user's loss would have no gradient; use callbacks or a loop of "
        "`train_on_batch`",
    ),
    Different(
        (
            *_tests(TRAINER, "test_adds_loss_scaling_optimizer", "test_loss_scaling_prevents_underflow"),
            *_tests(SWAP, "test_swap_ema_weights_with_loss_scale_optimizer"),
        ),
        "`mixed_float16`, with losses scaled against underflow",
        "`float32`, `float64` and `mixed_bfloat16`",
        "bfloat16 has float32's range, so nothing underflows",
    ),
    Different(
        _tests(OPTIMIZER, "test_static_loss_scaling"),
        "`loss_scale_factor` multiplies the loss and divides the gradients",
        "the argument is refused",
        "float32 and bfloat16 do not need it",
    ),
    Different(
        _tests(TRAINER, "test_loss_weights"),
        "`compile(loss_weights=0.2)` multiplies the loss",
        "None is accepted, a weight is refused",
        "a model has one loss, and Adam cancels any factor of it; `sample_weight` and `class_weight` weight examples",
    ),
    Different(
        _tests(TRAINER, "test_steps_per_epoch"),
        "with 10 batches and `steps_per_epoch=9`, epochs have 9, 1, 9, 1 steps",
        "every epoch has 9 steps, and begins in the data where the previous epoch ended",
        "the logs would have another meaning from epoch to epoch",
    ),
    Different(
        _tests(TRAINER, "test_max_epochs_and_steps"),
        "`keras.config.set_max_epochs` limits every fit of the process",
        "there is no such setting",
        "`epochs` and `steps_per_epoch` limit one fit",
    ),
    Different(
        (
            *_tests(LOSSES, "test_dtype_arg"),
            *_tests(LOSS, "test_default_dtype"),
            *_tests(METRIC, "test_dtype_arg", "test_default_dtype"),
        ),
        "losses and metrics take any `dtype=`, bfloat16 too, and a global `floatx`",
        "a loss called on arrays takes float16, float32 and float64; without `dtype=`, the loss is float64 for float64 "
        "and float32 for all other dtypes; an epoch's sums are float64",
        "NumPy has no bfloat16; a figure has fewer ways to lose digits",
    ),
    Different(
        _tests(f"{CALLBACKS}/model_checkpoint_test.py::ModelCheckpointTest", "test_model_checkpoint_options"),
        '`ModelCheckpoint(monitor="unknown", save_best_only=True)` warns in every epoch and saves nothing',
        "an error when training begins",
        "otherwise a training of a day may save nothing",
    ),
    Different(
        _tests(
            BOARD,
            "test_TensorBoard_weight_images",
            "test_TensorBoard_projector_callback",
        ),
        "`TensorBoard` writes images of weights, embeddings, graphs and profiles",
        "it writes scalars and histograms; the other arguments are refused",
        "no graph exists, and Python's profilers see every op",
    ),
    # --------------------------------------------------------------------------------------------------------- KerasHub
    Different(
        _tests(BYTES, "test_whitespace_split"),
        "two newlines before a word are one token, as in Llama 3",
        "each newline is a token, as in fairseq and transformers",
        "RoBERTa was trained on such tokens",
    ),
    Different(
        (*_tests(BYTES, "test_tokenize_with_tf_data"), *_tests(MASKS, "test_with_tf_data")),
        "`tf.data.Dataset.map` takes a tokenizer and a preprocessor",
        "they are called on texts, lists and arrays; `fit` takes generators and torch's `DataLoader`",
        "TensorFlow maps over its own tensors, and pyroberta does not use TensorFlow",
    ),
    Different(
        _tests(f"{ROBERTA}/roberta_masked_lm_test.py::RobertaMaskedLMTest", "test_masked_lm_basics"),
        "`predict(texts)` of a masked LM masks random tokens, and gives logits for these",
        "it gives logits at the `<mask>`s in the texts, and refuses texts without a `<mask>`",
        "a user wants to choose the tokens to predict; `preprocessor(texts)` masks random tokens",
    ),
    # ----------------------------------------------------------------------------------------------------- transformers
    Different(
        _tests(FILL, "run_pipeline_test"),
        "`fill_mask([text])` gives the fillings of that text, as `fill_mask(text)` does",
        "a list of one text gives a list of one result",
        "the shape of a result should not depend on how many texts there happen to be",
    ),
    Different(
        _tests(FILL, "test_small_model_pt"),
        "only the first token of a target with several tokens is scored, with a warning: ` Te` of `Teven`",
        "the whole target is scored, over as many masks as it has tokens",
        "the score belongs to the word that the user asked for",
    ),
    Different(
        _tests(FILL, "fill_mask_with_multiple_masks"),
        "`sequence` has `<s>` and `</s>` where a text has several masks",
        "`sequence` is always the text",
        "the text can be filled again",
    ),
    Different(
        _tests(COLLATOR, "test_data_collator_for_language_modeling"),
        "`labels` (B, S) hold -100 at tokens that are not predicted",
        "`mask_positions`, labels and weights (B, K), as in KerasHub",
        "logits are computed only at the masks",
    ),
    Different(
        _tests(COLLATOR, "test_data_collator_with_padding"),
        "`pad_to_multiple_of=8` rounds the length up",
        "no such argument exists",
        "no padding is computed: sequences are packed end to end",
    ),
)
