"""A suite of small cases with inputs, expected values and bounds, for implementations in any language.

suite.py            the class `Suite`, and how a suite is written and read
kinds.py            the table of kinds; `make`, and `answers`, which computes a suite with a backend of this package
verdicts.py         compares the values of an implementation with a suite
op_cases.py, random_cases.py, text_cases.py, training_cases.py, model_cases.py
                    the cases of each kind
sampled.py          bounds of several ops together
"""

from __future__ import annotations
