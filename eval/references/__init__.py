"""Rungs that every comparison holds beside the trained models: is a large model needed at all?"""
