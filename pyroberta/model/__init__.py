"""The model: its shape (`config`), its values (`params`), what it reads (`batch`), its walk (`encoder`, `mlm_head`)."""
