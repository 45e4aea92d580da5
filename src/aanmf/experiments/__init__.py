"""The paper's experiment, rerun: which fits it needs, their results on disk, tables, figures and the report."""
