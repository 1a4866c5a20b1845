"""Training: optimizers and schedules, losses and metrics, callbacks, and the loop that calls them."""
