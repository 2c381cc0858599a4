"""From a source to token ids: reading, splitting, checking, rendering."""
