"""One file a model: its configuration and its torch module, beside the equations they follow."""
