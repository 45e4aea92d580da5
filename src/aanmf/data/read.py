"""Readers as functions: `RatingDataset.read` and `RatingDataset.from_frames` under the names of earlier versions."""

from __future__ import annotations

from aanmf.data.dataset import RatingDataset

read_dataset = RatingDataset.read
dataset_from_frames = RatingDataset.from_frames
