"""The heads: what stands between the encoder and the product with a table of tokens or of classes."""
