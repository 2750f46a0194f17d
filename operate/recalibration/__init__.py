"""Recalibration: a bundle's calibration, thresholds and certificates anew, from a user's own records and without training."""

from .recalibrate import Figures, Recalibrated, recalibrate

__all__ = ["Figures", "Recalibrated", "recalibrate"]
