"""A suite of small cases with inputs, expected values and bounds, for an implementation in any language.

suite.py            what a case is; how a suite is written and read
kinds.py            the table of kinds; `make`, and `answers`, which runs a suite on one of our own backends
verdicts.py         what an implementation gave, judged
op_cases.py, random_cases.py, text_cases.py, training_cases.py, model_cases.py
                    the cases of each kind
sampled.py          bounds of what several ops make together
"""

from __future__ import annotations
