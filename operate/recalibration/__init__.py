"""Recalibration: new calibration, thresholds and certificates for a bundle, from a user's own records and without training."""

from .recalibrate import Figures, Recalibrated, recalibrate

__all__ = ["Figures", "Recalibrated", "recalibrate"]
