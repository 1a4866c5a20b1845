"""The objects that users work with: the backbone, and a model for each task, which loads, trains, evaluates, predicts
and saves.
"""
