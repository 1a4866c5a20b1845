"""Text: the tokenizer and its training, packing, masking, and the preprocessor that uses them all."""
