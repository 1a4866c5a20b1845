"""What users call: the backbone, and a model for each task, which loads, trains, evaluates, answers and saves."""
