"""The model: its shape (`config`), its values (`parameters`), what it reads (`batch`), its ops (`encoder`, `heads`)."""
