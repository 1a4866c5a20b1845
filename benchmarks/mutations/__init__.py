"""Faults planted by hand in two models that know nothing of this project's code, and how well they are found."""
