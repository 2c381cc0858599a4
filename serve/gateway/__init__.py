"""The door before the engines: who may ask what, and not a byte more than that."""
