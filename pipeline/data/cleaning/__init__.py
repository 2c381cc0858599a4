"""Cleaning: what is done to one row by itself, one file for each kind of step."""

from pipeline.data.cleaning.cleaner import Cleaned, Cleaner
from pipeline.data.cleaning.describe import describe

__all__ = ["Cleaned", "Cleaner", "describe"]
