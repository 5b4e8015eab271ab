"""Documents, in English and Chinese."""
