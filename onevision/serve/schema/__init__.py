"""The OpenAI wire format: the only place that knows how requests and answers are written."""
