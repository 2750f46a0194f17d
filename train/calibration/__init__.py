"""From logits to calibrated probabilities, and certified thresholds on them.

Public parts: `fit_calibration` (platt_scaling), `cross_fit` (cross_fitting), `PolicyThreshold`, `Thresholds` and
`fit_thresholds` (thresholds), `certify_block` (precision_threshold), `certify_pooled` (pooled).
"""
