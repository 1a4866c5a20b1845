"""Names of transformers' tokenizers, and what to write here instead."""

from __future__ import annotations

_PADS = "a preprocessor pads and cuts; a tokenizer that was made with sequence_length= does so too"

ATTRIBUTES = {
    "vocab_size": "len(tokenizer) is the number of tokens, vocabulary_size() is the number of rows that a model needs",
    **dict.fromkeys(("vocab", "get_vocab"), "vocabulary is that dict"),
    "convert_ids_to_tokens": "id_to_token(id) gives the token of an id",
    "convert_tokens_to_ids": "token_to_id(token) gives the id of a token",
    "convert_tokens_to_string": "decode(ids) gives the text",
    "batch_decode": "detokenize(ids) takes several sequences of ids",
    **dict.fromkeys(
        ("encode_plus", "batch_encode_plus"), "encode(text, pair) gives the ids, encode_batch those of many"
    ),
    **dict.fromkeys(
        ("model_max_length", "max_len"),
        "sequence_length, of a tokenizer or of a preprocessor, is the largest number of tokens",
    ),
    "pad": _PADS,
    "set_vocabulary_and_merges": "Tokenizer(vocabulary, merges) makes one of other tokens",
    "save_pretrained": "save_to_preset(directory) saves it",
    "from_pretrained": "Tokenizer.from_preset(directory) loads one",
    "all_special_tokens": "special_tokens has them",
    "all_special_ids": "special_token_ids has them",
    **{f"{role}_token{end}": f"start_token{end} is that" for role in ("cls", "bos") for end in ("", "_id")},
    **{f"{role}_token{end}": f"end_token{end} is that" for role in ("sep", "eos") for end in ("", "_id")},
}
ARGUMENTS = {
    "add_special_tokens": "tokenizer(text) adds no <s> and </s>, encode(text) adds them",
    **dict.fromkeys(("padding", "truncation", "max_length", "pad_to_multiple_of"), _PADS),
    "return_tensors": "ids are lists, or arrays of a tokenizer that is made with sequence_length=",
    **dict.fromkeys(("return_offsets_mapping", "text_pair"), "encode_with_offsets(text, pair) gives ids and offsets"),
    **dict.fromkeys(
        ("return_attention_mask", "return_token_type_ids"), "a preprocessor gives token_ids and a padding_mask"
    ),
}
