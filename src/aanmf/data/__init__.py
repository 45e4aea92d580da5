"""From tables to arrays: schema, data set, readers, splits, encoders."""
