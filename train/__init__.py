"""From records to a run: training, calibration, certified thresholds, evaluation and the report."""
