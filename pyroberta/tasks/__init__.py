"""The objects of users: the backbone, and a model for each task, which loads, trains, evaluates, predicts and saves."""
