"""The peers' tests of the files that `claims` names which make no claim about a library like this one, with the reason.

Every test of those files has a claim here, stands in `different.DIFFERENT`, or in this table.
"""

from __future__ import annotations

K = "keras/src"
H = "keras_hub/src"
T = "transformers/tests"

OUTSIDE: dict[str, dict[str, tuple[str, ...]]] = {
    "another framework's: TensorFlow, JAX, graphs, compilation, sparse and ragged tensors": {
        f"{K}/trainers/trainer_test.py::TestTrainer": (
            *("test_evaluate_sparse", "test_fit_sparse", "test_predict_sparse", "test_trainer_with_raggeds"),
            *("test_fit_eval_flow_for_jax_model_weights", "test_jit_compile_with_tf_determinism", "test_retracing"),
            *("test_retracing_predict", "test_symbolic_build", "test_steps_per_execution_steps_per_epoch"),
            "test_steps_per_execution_unrolled_steps_steps_count",
            "test_steps_per_execution_steps_count_unknown_dataset_size",
            "test_steps_per_execution_steps_per_epoch_unknown_data_size",
        ),
        f"{K}/trainers/trainer_test.py::JAXTrainerCorrectnessTest": ("test_jit_fit_with_out_shardings_logic",),
        f"{K}/optimizers/adam_test.py::AdamTest": ("test_clipnorm_indexed_slices",),
        f"{K}/optimizers/optimizer_test.py::OptimizerTest": ("test_mixed_with_tf_variables", "test_tf_checkpointing"),
        f"{K}/metrics/metric_test.py::MetricTest": (
            *("test_stateless_reset_state", "test_stateless_result", "test_stateless_update_state"),
            *("test_submetric_tracking", "test_variable_tracking"),
        ),
        f"{K}/metrics/reduction_metrics_test.py::MeanTest": ("test_weighted_dynamic_shapes",),
        f"{K}/metrics/reduction_metrics_test.py::MetricWrapperTest": ("test_weighted_dynamic_shape",),
        f"{K}/callbacks/swap_ema_weights_test.py::SwapEMAWeightsTest": ("test_swap_ema_weights_with_tf_distribute",),
        f"{K}/callbacks/tensorboard_test.py::TestTensorBoardV2": (
            *("test_TensorBoard_auto_trace", "test_TensorBoard_non_blocking", "test_TensorBoard_write_model"),
            *("test_TensorBoard_write_sequential_model_no_input_shape", "test_custom_summary"),
            "test_TensorBoard_write_sequential_model_with_input_shape",
        ),
        f"{H}/models/roberta/roberta_text_classifier_test.py::RobertaTextClassifierTest": ("test_litert_export",),
        f"{T}/pipelines/test_pipelines_fill_mask.py::FillMaskPipelineTests": (
            *("test_small_model_tf", "test_large_model_tf", "test_model_no_pad_tf", "test_fp16_casting"),
        ),
        f"{T}/models/roberta/test_modeling_roberta.py::RobertaModelTest": (
            *("test_cpu_offload", "test_disk_offload_bin", "test_disk_offload_safetensors"),
        ),
        f"{T}/models/roberta/test_modeling_roberta.py::RobertaModelIntegrationTest": ("test_export",),
        # The torch twins of the tests of NumPy's collators.
        f"{T}/trainer/test_data_collator.py::DataCollatorIntegrationTest": (
            *("test_default_with_dict", "test_default_classification_and_regression", "test_default_with_no_labels"),
            *("test_data_collator_with_padding", "test_data_collator_for_token_classification", "test_plm", "test_nsp"),
            *("test_data_collator_for_seq2seq_with_lists", "test_data_collator_for_seq2seq_with_pt", "test_sop"),
            *("test_data_collator_for_language_modeling", "test_data_collator_for_whole_word_mask"),
            "test_data_collator_for_token_classification_works_with_pt_tensors",
        ),
    },
    "of models, layers, optimizers, losses and metrics that are not RoBERTa's masked LM and classifier": {
        f"{K}/trainers/trainer_test.py::TestTrainer": (
            *("test_constraints_are_applied", "test_internal_only_loss", "test_nested_trainer_metrics"),
            *("test_partial_loss_partial_label", "test_predict_flow_struct", "test_rng_updated_during_predict"),
        ),
        f"{K}/trainers/compile_utils_test.py::TestCompileLoss": (
            *("test_dict_output_case", "test_different_container_types", "test_list_loss_dict_data"),
            *("test_list_output_case", "test_struct_loss", "test_struct_loss_indice_path"),
            *("test_struct_loss_invalid_path", "test_struct_loss_invalid_weights", "test_struct_loss_namedtuple"),
            *("test_struct_loss_valid_weights", "test_structure_mismatch", "test_y_true_partial_y_pred_span"),
        ),
        f"{K}/trainers/compile_utils_test.py::TestCompileMetrics": (
            *("test_deeply_nested_outputs_and_metrics", "test_dict_output_case", "test_list_output_case"),
            *("test_dict_outputs_ignore_mismatched_output_names", "test_dict_outputs_output_names_ordering"),
            *("test_dict_outputs_outputs_ordering", "test_list_outputs_dict_labels_uses_output_names"),
        ),
        f"{K}/optimizers/optimizer_test.py::OptimizerTest": (
            *("test_constraints_are_applied", "test_overwrite_with_gradient"),
            "test_overwrite_with_gradient_with_gradient_accumulation",
        ),
        f"{K}/losses/loss_test.py::LossTest": ("test_mask", "test_mask_and_sample_weight"),
        f"{K}/metrics/accuracy_metrics_test.py::AccuracyTest": (
            *("test_weighted_nd_broadcast_weights", "test_weighted_nd_weights"),
        ),
        f"{K}/metrics/accuracy_metrics_test.py::BinaryAccuracyTest": (
            *("test_config", "test_threshold", "test_unweighted", "test_weighted", "test_weighted_rank_1"),
            *("test_weighted_nd_broadcast_weights", "test_weighted_nd_weights"),
        ),
        f"{K}/metrics/accuracy_metrics_test.py::CategoricalAccuracyTest": (
            *("test_config", "test_unweighted", "test_weighted"),
        ),
        f"{K}/metrics/accuracy_metrics_test.py::SparseCategoricalAccuracyTest": (
            *("test_reshape_matches", "test_reshape_matches_to_original_y_true_shape"),
        ),
        f"{K}/metrics/accuracy_metrics_test.py::SparseTopKCategoricalAccuracyTest": (
            *("test_config", "test_config_from_sorted_ids", "test_unweighted", "test_weighted"),
            *("test_from_sorted_ids_unweighted", "test_from_sorted_ids_weighted"),
        ),
        f"{K}/metrics/accuracy_metrics_test.py::TopKCategoricalAccuracyTest": (
            *("test_config", "test_unweighted", "test_weighted"),
        ),
        f"{K}/metrics/reduction_metrics_test.py::MeanTest": (
            *("test_weighted_nd", "test_weighted_nd_broadcast", "test_weighted_negative_weights"),
        ),
        f"{K}/metrics/reduction_metrics_test.py::MetricWrapperTest": (
            *("test_binary_accuracy_with_boolean_inputs", "test_config", "test_unweighted", "test_weighted"),
            "test_weighted_broadcast",
        ),
        f"{K}/metrics/reduction_metrics_test.py::SumTest": (
            *("test_config", "test_unweighted", "test_weighted", "test_weighted_nd", "test_weighted_nd_broadcast"),
        ),
        f"{H}/tokenizers/tokenizer_test.py::TokenizerTest": ("test_missing_tokenize_raises",),
        f"{H}/models/task_test.py::TestTask": ("test_save_to_preset_custom_backbone_and_preprocessor",),
        f"{T}/models/roberta/test_modeling_roberta.py::RobertaModelTest": (
            *("test_config", "test_model_various_embeddings", "test_model_as_decoder", "test_for_causal_lm"),
            *("test_model_as_decoder_with_default_input_mask", "test_decoder_model_past_with_large_inputs"),
            *("test_decoder_model_past_with_large_inputs_relative_pos_emb", "test_for_token_classification"),
            *("test_for_multiple_choice", "test_for_question_answering"),
            "test_create_position_ids_from_inputs_embeds",
        ),
        f"{T}/trainer/test_data_collator.py::NumpyDataCollatorIntegrationTest": (
            *("test_default_with_dict", "test_default_classification_and_regression", "test_default_with_no_labels"),
            *("test_data_collator_for_token_classification", "test_data_collator_for_seq2seq", "test_plm"),
            *("test_nsp", "test_sop"),
        ),
        f"{T}/trainer/test_data_collator.py::NumpyDataCollatorImmutabilityTest": (
            *("test_default_collator_immutability", "test_with_padding_collator_immutability"),
            *("test_for_token_classification_collator_immutability", "test_seq2seq_collator_immutability"),
            "test_next_sentence_prediction_collator_immutability",
            "test_permutation_language_modelling_collator_immutability",
            "test_sentence_order_prediction_collator_immutability",
        ),
        f"{T}/pipelines/test_pipelines_fill_mask.py::FillMaskPipelineTests": ("test_model_no_pad_pt",),
        f"{T}/models/roberta/test_tokenization_roberta.py::RobertaTokenizationTest": ("test_pretokenized_inputs",),
    },
    "of another service or storage: Orbax, a server that takes logs, grain, PyDataset": {
        f"{K}/callbacks/orbax_checkpoint_test.py::OrbaxCheckpointTest": (
            *("test_async_vs_sync_saving", "test_checkpoint_loading_comprehensive", "test_checkpoint_saving_basic"),
            *("test_checkpoint_loading_via_saving_api", "test_checkpoint_with_assets", "test_initial_value_threshold"),
            *("test_comprehensive_model_state_restoration", "test_distributed_checkpoint_functionality"),
            *("test_distributed_checkpoint_resharding", "test_invalid_save_freq", "test_max_to_keep"),
            *("test_load_weights_from_orbax_checkpoint", "test_save_best_only", "test_save_freq_epoch"),
            "test_training_resumption",
        ),
        f"{K}/callbacks/remote_monitor_test.py::TerminateOnNaNTest": (
            *("test_RemoteMonitor", "test_RemoteMonitorWithJsonPayload", "test_RemoteMonitor_np_array"),
            "test_RemoteMonitor_np_float32",
        ),
        f"{K}/trainers/epoch_iterator_test.py::TestEpochIterator": ("test_epoch_callbacks",),
    },
    "needs the internet; scripts/hub_check.sh does it there": {
        f"{H}/models/roberta/roberta_backbone_test.py::RobertaBackboneTest": (
            *("test_smallest_preset", "test_all_presets"),
        ),
        f"{H}/models/roberta/roberta_text_classifier_test.py::RobertaTextClassifierTest": ("test_all_presets",),
        f"{T}/models/roberta/test_modeling_roberta.py::RobertaModelTest": ("test_model_from_pretrained",),
        f"{T}/models/roberta/test_modeling_roberta.py::RobertaModelIntegrationTest": (
            *("test_inference_masked_lm", "test_inference_no_head"),
        ),
    },
}


def sources() -> list[str]:
    """Each test of the table, as `claims.claim` names it."""
    return [f"{file}::{test}" for files in OUTSIDE.values() for file, tests in files.items() for test in tests]
