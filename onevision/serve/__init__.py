"""A model -> an HTTP server with OpenAI's API, a demo page, and batches of requests."""
