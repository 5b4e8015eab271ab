"""The body of /v1/responses, without stored state -> ResponsesRequest -> GenerationRequest."""

from typing import Annotated, Literal

from pydantic import Field

from onevision.generate.sampler import SamplingOptions
from onevision.serve.generation_request import GenerationRequest, RequestMessage
from onevision.serve.schema.body import In, RequestBody
from onevision.serve.schema.chat_request import (
    WITHOUT_EFFECT,
    Count,
    JsonFormat,
    JsonSchema,
    SchemaFormat,
    Temperature,
    TextFormat,
    TopP,
    answer_constraint,
    refuse_storing,
)
from onevision.serve.schema.content import Keep, Message, alternate_messages
from onevision.serve.schema.fields import check_fields
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import Limits

# In `include` of requests that want the log-probabilities of the answer's tokens.
LOGPROBS = "message.output_text.logprobs"


class FlatSchemaFormat(JsonSchema):
    """JSON of a schema, one level flatter than in Chat Completions."""

    type: Literal["json_schema"]


class TextOptions(In):
    """The format of the answer's text."""

    harmless = frozenset({"verbosity"})

    format: Annotated[
        TextFormat | JsonFormat | FlatSchemaFormat | None, Field(discriminator="type")
    ] = None


# Fields of Chat Completions that this API spells otherwise, or does not have.
INSTEAD = {
    "messages": "use input",
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "use max_output_tokens"),
    **dict.fromkeys(("response_format", "structured_outputs"), "use text.format"),
    "logprobs": "use top_logprobs",
    **dict.fromkeys(("system", "system_prompt"), "use instructions"),
    **dict.fromkeys(
        ("min_tokens", "ignore_eos", "stop_token_ids", "top_k", "min_p", "repetition_penalty",
         "presence_penalty", "frequency_penalty", "n", "seed", "stop", "logit_bias", "cache_salt"),
        "/v1/chat/completions has it",
    ),
}  # fmt: skip


class ResponsesRequest(RequestBody):
    """A request of the Responses API. Nothing is stored."""

    harmless = WITHOUT_EFFECT
    instead = INSTEAD

    model: str
    input: str | Annotated[list[Message], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    text: TextOptions | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    keep: Keep | None = None
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None

    def to_generation(self, limits: Limits) -> GenerationRequest:
        """Returns the request in the server's own form. Raises ApiError if it is not supported."""
        refuse_storing(self)
        ignored = check_fields(self)
        if isinstance(self.input, list) and len(self.input) > limits.messages:
            raise ApiError(f"input: more than {limits.messages} messages", param="input")
        options: SamplingOptions = {}
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.top_p is not None:
            options["top_p"] = self.top_p
        form = self.text.format if self.text else None
        if isinstance(form, FlatSchemaFormat):
            form = SchemaFormat(type="json_schema", json_schema=form)
        options.update(answer_constraint(form, None, limits))
        options["logprobs"] = self.top_logprobs
        if self.top_logprobs is None and LOGPROBS in (self.include or ()):
            options["logprobs"] = 0
        return GenerationRequest(
            model=self.model,
            messages=self._messages(),
            options=options,
            max_tokens=self.max_output_tokens,
            keep=self.keep,
            cache_salt=self.prompt_cache_key or "",
            ignored_fields=ignored,
        )

    def _messages(self) -> tuple[RequestMessage, ...]:
        """Returns the input's messages, after the instructions as (part of) the system's."""
        given = self.input
        if isinstance(given, str):
            given = [Message(role="user", content=given)]
        messages = alternate_messages(given, param="input")
        if self.instructions is None:
            return messages
        parts: tuple[str, ...] = (self.instructions,)
        if messages[0].role == "system":
            first, *messages = messages
            parts = (*parts, "\n", *(part for part in first.parts if isinstance(part, str)))
        return (RequestMessage(role="system", parts=parts, param="instructions"), *messages)
