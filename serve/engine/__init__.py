"""Running the model: `variants` chooses graph and engine, `batching` and `workers` run windows side by side."""
