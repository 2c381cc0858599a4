"""A served model asked over HTTP: any OpenAI-compatible endpoint, in the forms that it can give."""
