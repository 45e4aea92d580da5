"""Figures of merit, protocols and tests of significance."""
