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
        "there is no compiled call whose start would be saved",
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
        "such a subclass is refused where it is defined",
        "the backward is written by hand, so a loss of one's own would have no gradient; callbacks, or a loop of "
        "`train_on_batch`, are the way",
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
        "float32 and bfloat16 have no need of it",
    ),
    Different(
        _tests(TRAINER, "test_loss_weights"),
        "`compile(loss_weights=0.2)` multiplies the loss",
        "None is accepted, a weight is refused",
        "a model has one loss, of which Adam undoes any factor; `sample_weight` and `class_weight` weight examples",
    ),
    Different(
        _tests(TRAINER, "test_steps_per_epoch"),
        "with 10 batches and `steps_per_epoch=9`, epochs have 9, 1, 9, 1 steps",
        "every epoch has 9 steps, and goes on in the data where the one before ended",
        "what an epoch's logs mean would change from epoch to epoch",
    ),
    Different(
        _tests(TRAINER, "test_max_epochs_and_steps"),
        "`keras.config.set_max_epochs` limits every fit of the process",
        "there is no such setting",
        "`epochs` and `steps_per_epoch` say it where it applies",
    ),
    Different(
        (
            *_tests(LOSSES, "test_dtype_arg"),
            *_tests(LOSS, "test_default_dtype"),
            *_tests(METRIC, "test_dtype_arg", "test_default_dtype"),
        ),
        "losses and metrics take any `dtype=`, bfloat16 too, and a global `floatx`",
        "a loss called on arrays takes float16, float32 and float64; without one, the loss of float64 is float64, of "
        "all else float32; an epoch's sums are float64",
        "NumPy has no bfloat16; fewer ways for a figure to lose its digits",
    ),
    Different(
        _tests(f"{CALLBACKS}/model_checkpoint_test.py::ModelCheckpointTest", "test_model_checkpoint_options"),
        '`ModelCheckpoint(monitor="unknown", save_best_only=True)` warns in every epoch and saves nothing',
        "an error when training begins",
        "nobody wants to train for a day and have nothing saved",
    ),
    Different(
        _tests(
            BOARD,
            "test_TensorBoard_weight_images",
            "test_TensorBoard_projector_callback",
        ),
        "`TensorBoard` writes images of weights, embeddings, graphs and profiles",
        "it writes scalars and histograms; the other arguments are refused",
        "there is no graph, and Python's profilers see every op",
    ),
    # --------------------------------------------------------------------------------------------------------- KerasHub
    Different(
        _tests(BYTES, "test_whitespace_split"),
        "two newlines before a word are one token, as Llama 3 wants it",
        "each is a token, as in fairseq and transformers",
        "so RoBERTa saw them when it was trained",
    ),
    Different(
        (*_tests(BYTES, "test_tokenize_with_tf_data"), *_tests(MASKS, "test_with_tf_data")),
        "`tf.data.Dataset.map` takes a tokenizer and a preprocessor",
        "they are called on texts, lists and arrays; `fit` takes generators and torch's `DataLoader`",
        "TensorFlow maps over its own tensors, and is not here",
    ),
    Different(
        _tests(f"{ROBERTA}/roberta_masked_lm_test.py::RobertaMaskedLMTest", "test_masked_lm_basics"),
        "`predict(texts)` of a masked LM masks tokens at random, and gives logits for those",
        "it gives logits at the `<mask>`s that the texts hold, and refuses texts without any",
        "who predicts wants to say what is to be predicted; `preprocessor(texts)` masks at random",
    ),
    # ----------------------------------------------------------------------------------------------------- transformers
    Different(
        _tests(FILL, "run_pipeline_test"),
        "`fill_mask([text])` gives the fillings of that text, as `fill_mask(text)` does",
        "a list gives a list, of one",
        "the shape of a result should not depend on how many texts there happen to be",
    ),
    Different(
        _tests(FILL, "test_small_model_pt"),
        "of a target with several tokens the first alone is scored, with a warning: ` Te` of `Teven`",
        "the whole target is scored, over as many masks as it has tokens",
        "the score is that of the word that was asked for",
    ),
    Different(
        _tests(FILL, "fill_mask_with_multiple_masks"),
        "`sequence` has `<s>` and `</s>` where a text has several masks",
        "`sequence` is the text, always",
        "it can be filled again",
    ),
    Different(
        _tests(COLLATOR, "test_data_collator_for_language_modeling"),
        "`labels` (B, S) hold -100 where nothing is to be predicted",
        "`mask_positions`, labels and weights (B, K), as in KerasHub",
        "logits are computed at the masks alone",
    ),
    Different(
        _tests(COLLATOR, "test_data_collator_with_padding"),
        "`pad_to_multiple_of=8` rounds the length up",
        "there is no such argument",
        "padding is never computed here: sequences are packed end to end",
    ),
)
