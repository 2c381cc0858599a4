"""What answers: the bundle, the engine process and the gateway before it."""
