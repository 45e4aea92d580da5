"""AANMF++: module, histories, kernel ridge, intervals and its own way of fitting."""
