"""KerasHub's tokenizer under KerasHub's names, as in `keras_hub.tokenizers`."""

from pyroberta.text.tokenizer import Tokenizer

BytePairTokenizer = RobertaTokenizer = Tokenizer

__all__ = ["BytePairTokenizer", "RobertaTokenizer", "Tokenizer"]
