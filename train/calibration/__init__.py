"""From logits to calibrated probabilities, and certified thresholds on them.

Public parts: `Calibration` and `fit_calibration` (platt_scaling), `PolicyThreshold`, `fit_thresholds` and `fit_any_review`
(thresholds), `certify_block` (precision_threshold).
"""
