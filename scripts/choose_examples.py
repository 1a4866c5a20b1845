"""Chooses the texts by which README shows what `roberta_tiny_en` can do, by a rule that looks at no answer first.

    python scripts/choose_examples.py

The pool is the sentences of `pyroberta.data.speeches()`, on which the preset was never trained, that have 6 to 12 words
and begin and end as a sentence does. In each, one word is masked: drawn at random among those of at least four letters
that are one token, in lower case, and neither the first nor the last. The order is random, too. Both follow from one
seed.

The rule, which was stated before the first run: README shows the first three sentences in that order whose masked word
the model puts first, and tells how often it does so in the whole pool. The first ten, right or wrong, are printed too.
"""

from __future__ import annotations

import re

import numpy as np

import pyroberta
import pyroberta.data

SEED = 0
FEWEST_WORDS, MOST_WORDS, FEWEST_LETTERS = 6, 12, 4


def pool(tokenizer: pyroberta.Tokenizer) -> list[tuple[str, str]]:
    """Sentences with a mask in the place of a word, and that word, in their order."""
    rng = np.random.default_rng(SEED)
    found = []
    sentences = [s for paragraph in pyroberta.data.speeches() for s in re.split(r"(?<=[.!?]) +", paragraph)]
    for sentence in dict.fromkeys(sentences):
        words = sentence.split(" ")
        if not FEWEST_WORDS <= len(words) <= MOST_WORDS or not re.fullmatch(r"[A-Z].*[a-z][.!?]", sentence):
            continue
        places = [
            i
            for i in range(1, len(words) - 1)
            if re.fullmatch(rf"[a-z]{{{FEWEST_LETTERS},}}", words[i])
            and len(tokenizer.encode(f" {words[i]}", add_special_tokens=False)) == 1
        ]
        if places:
            place = int(rng.choice(places))
            found.append((" ".join([*words[:place], "<mask>", *words[place + 1 :]]), words[place]))
    return [found[i] for i in rng.permutation(len(found))]


def main() -> None:
    """The command."""
    masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
    chosen = pool(pyroberta.Tokenizer.from_preset("roberta_tiny_en"))
    answers = masked_lm.fill_mask([text for text, _ in chosen], top_k=5, verbose=0)
    words = [[filling.token_str.strip() for filling in fillings] for fillings in answers]
    is_first = np.array([word == some[0] for (_, word), some in zip(chosen, words, strict=True)])
    is_among = np.array([word in some for (_, word), some in zip(chosen, words, strict=True)])
    print(
        f"{len(chosen)} sentences: the word is the first of the answers in {100 * is_first.mean():.1f} % of them, ",
        end="",
    )
    print(f"among the first five in {100 * is_among.mean():.1f} %\n")
    print("| text | word | the five likeliest |\n|---|---|---|")
    for i in [*range(10), *np.flatnonzero(is_first)[:3].tolist()]:
        (text, word), fillings = chosen[i], answers[i]
        shown = ", ".join(f"`{filling.token_str.strip()}` {filling.score:.2f}" for filling in fillings)
        print(f"| {text.replace('<mask>', '`<mask>`')} | {word} | {shown} |")


if __name__ == "__main__":
    main()
