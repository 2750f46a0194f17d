"""Ordinary texts that are only calibrated and certified with."""
