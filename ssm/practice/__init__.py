"""Reweighting on real data: a classifier, its trainer, monitors, evaluation and studies."""
