"""Judgement of generated text: its quality, its diversity and its speed, always the three."""
