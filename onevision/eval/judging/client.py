"""A query -> the judge's reply, through an OpenAI-compatible endpoint."""

from dataclasses import dataclass

from onevision.endpoint import ChatEndpoint, EndpointConfig, image_part, text_part
from onevision.errors import JudgeError


@dataclass(frozen=True, kw_only=True)
class Query:
    """A single request to a judge."""

    system: str
    user: str
    # PNG images, shown before the text.
    images: tuple[bytes, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 1024
    # A regular expression of readable replies, which a model in this process is held to.
    form: str | None = None
    # Which time the same is asked; replies are remembered for each.
    round: int = 0

    def messages(self) -> list[dict[str, object]]:
        """Returns the messages in the API's format."""
        content: str | list[dict[str, object]] = self.user
        if self.images:
            content = [*map(image_part, self.images), text_part(self.user)]
        user: dict[str, object] = {"role": "user", "content": content}
        return [{"role": "system", "content": self.system}, user] if self.system else [user]


@dataclass(frozen=True, kw_only=True)
class JudgeReply:
    """A judge's text and its token counts, which are None if the endpoint reports none."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


class Endpoint:
    """Sends queries to an endpoint and retries transient failures."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._endpoint = ChatEndpoint(config, error=JudgeError)

    @property
    def num_retries(self) -> int:
        """Queries that failed and were sent again."""
        return self._endpoint.num_retries

    @property
    def name(self) -> str:
        """The model, by the endpoint's own name."""
        return self.config.model

    @property
    def identity(self) -> dict[str, object]:
        """What a reply depends on beside the query."""
        return {"base_url": self.config.base_url, "model": self.config.model}

    def ask(self, query: Query) -> JudgeReply:
        """Returns the reply to a query.

        Raises JudgeError if no query can be answered (wrong key, unreachable after all attempts),
        RefusedQueryError if the endpoint rejects this one.
        """
        reply = self._endpoint.complete(
            query.messages(), temperature=query.temperature, max_tokens=query.max_tokens
        )
        return JudgeReply(
            text=reply.text,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )
