"""The body of /v1/chat/completions -> ChatRequest -> GenerationRequest."""

import json
from typing import Annotated, Literal

from pydantic import Field

from onevision.generate.sampler import SamplingOptions
from onevision.serve.generation_request import GenerationRequest
from onevision.serve.schema.body import In, RequestBody
from onevision.serve.schema.content import Keep, Message, alternate_messages
from onevision.serve.schema.fields import check_fields
from onevision.serve.schema.json_text import Json, depth_of
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import Limits

Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
# Accepted, and without effect on an answer.
WITHOUT_EFFECT = frozenset({
    "user", "metadata", "safety_identifier", "service_tier", "parallel_tool_calls", "verbosity",
    "reasoning_effort", "store", "tool_choice", "reasoning", "truncation", "prompt_cache_retention",
})  # fmt: skip


class JsonSchema(In):
    """A schema, and its name."""

    harmless = frozenset({"description"})

    name: str = "answer"
    schema_: Annotated[Json, Field(alias="schema")]
    strict: bool | None = None


class TextFormat(In):
    """Any text."""

    type: Literal["text"]


class JsonFormat(In):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(In):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StructuredOutputs(In):
    """Other constraints on the answer: exactly one of them."""

    regex: str | None = None
    choice: Annotated[list[str], Field(min_length=1, max_length=256)] | None = None
    json_: Annotated[Json | None, Field(alias="json")] = None


class StreamOptions(In):
    """What a stream contains beside the answer."""

    harmless = frozenset({"include_obfuscation", "continuous_usage_stats"})

    include_usage: bool | None = None


class ChatRequest(RequestBody):
    """A chat request as OpenAI's clients write it, with vLLM's additional fields."""

    harmless = WITHOUT_EFFECT

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    n: Count | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Bias] | None = None
    response_format: Annotated[
        TextFormat | JsonFormat | SchemaFormat | None, Field(discriminator="type")
    ] = None
    structured_outputs: StructuredOutputs | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    keep: Keep | None = None
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None
    cache_salt: Annotated[str, Field(max_length=256)] | None = None

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with its token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def to_generation(self, limits: Limits) -> GenerationRequest:
        """Returns the request in the server's own form. Raises ApiError if it is not supported."""
        refuse_storing(self)
        ignored = check_fields(self)
        if len(self.messages) > limits.messages:
            raise ApiError(
                f"messages: {len(self.messages)} are more than the {limits.messages} allowed",
                param="messages",
            )
        most, other = self.max_completion_tokens, self.max_tokens
        if most is not None and other is not None and most != other:
            raise ApiError(
                "max_tokens and max_completion_tokens differ; give one", param="max_tokens"
            )
        return GenerationRequest(
            model=self.model,
            messages=alternate_messages(self.messages, param="messages"),
            options=self._options(limits),
            max_tokens=most if most is not None else other,
            ignore_eos=bool(self.ignore_eos),
            keep=self.keep,
            cache_salt=self.cache_salt or self.prompt_cache_key or "",
            ignored_fields=ignored,
        )

    def _options(self, limits: Limits) -> SamplingOptions:
        options: SamplingOptions = {}
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty",
                     "frequency_penalty", "seed"):  # fmt: skip
            value = getattr(self, name)
            if value is not None:
                options[name] = value
        options["top_k"] = max(self.top_k or 0, 0)
        options["min_new_tokens"] = self.min_tokens or 0
        options["num_answers"] = self._check_limit(self.n or 1, limits.answers, "n")
        options["stop"] = stop_strings(self.stop, limits)
        biases = self.logit_bias or {}
        self._check_limit(len(biases), limits.logit_biases, "logit_bias")
        options["logit_bias"] = {int(token): bias for token, bias in biases.items()}
        options["logprobs"] = self._logprobs()
        options["end_ids"] = tuple(self.stop_token_ids or ())
        options.update(answer_constraint(self.response_format, self.structured_outputs, limits))
        return options

    def _logprobs(self) -> int | None:
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError("top_logprobs is given without logprobs: true", param="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None

    @staticmethod
    def _check_limit(value: int, most: int, param: str) -> int:
        if value > most:
            raise ApiError(f"{param} is {value}; expected at most {most}", param=param)
        return value


def refuse_storing(body: RequestBody) -> None:
    """Raises ApiError if a request asks to be stored."""
    if (body.model_extra or {}).get("store"):
        raise ApiError(
            "store: nothing is stored here; leave it out or set it to false",
            code="unsupported_parameter",
            param="store",
        )


def stop_strings(stop: str | list[str] | None, limits: Limits) -> tuple[str, ...]:
    """Returns the strings that end an answer. Raises ApiError."""
    strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
    most = limits.stop_characters
    if len(strings) > limits.stops or not all(0 < len(one) <= most for one in strings):
        raise ApiError(
            f"stop: expected at most {limits.stops} strings of 1 to {most} characters", param="stop"
        )
    return strings


def answer_constraint(
    response_format: TextFormat | JsonFormat | SchemaFormat | None,
    structured_outputs: StructuredOutputs | None,
    limits: Limits,
) -> SamplingOptions:
    """Returns what the answer must match, as a sampling option. Raises ApiError."""
    forms: list[SamplingOptions] = []
    if isinstance(response_format, JsonFormat):
        forms.append({"json_schema": '{"type": "object"}'})
    if isinstance(response_format, SchemaFormat):
        schema = response_format.json_schema.schema_
        text = _dump_schema(schema, limits, "response_format.json_schema.schema")
        forms.append({"json_schema": text})
    if (other := structured_outputs) is not None:
        if other.json_ is not None:
            schema = _dump_schema(other.json_, limits, "structured_outputs.json")
            forms.append({"json_schema": schema})
        if other.regex is not None:
            forms.append({"regex": other.regex})
        if other.choice is not None:
            forms.append({"choices": tuple(other.choice)})
    if len(forms) > 1:
        raise ApiError("more than one form of the answer is given", param="structured_outputs")
    return forms[0] if forms else {}


def _dump_schema(schema: Json, limits: Limits, param: str) -> str:
    text = json.dumps(schema)
    depth = depth_of(schema)
    if len(text) > limits.schema_bytes or depth > limits.schema_depth:
        raise ApiError(
            f"{param}: {len(text):,} characters, {depth} deep; expected at most "
            f"{limits.schema_bytes:,} and {limits.schema_depth}",
            param=param,
        )
    return text
