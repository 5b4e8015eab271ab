"""A request to /v1/chat/completions -> a Question."""

import json
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from onevision.generate.sampler import SamplingOptions
from onevision.serve.question import Question
from onevision.serve.schema.body import Json, depth_of, parse_object
from onevision.serve.schema.content import Message, Wire, turns_of
from onevision.serve.schema.problems import ApiError, first_problem
from onevision.serve.settings import Limits

Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
# Taken from whoever sends them, and without effect here.
WITHOUT_EFFECT = frozenset({
    "user", "metadata", "safety_identifier", "service_tier", "parallel_tool_calls", "verbosity",
    "reasoning_effort", "store", "tool_choice", "reasoning", "truncation", "include",
})  # fmt: skip
# What would change the answer and cannot be had.
REFUSED = frozenset({
    "tools", "functions", "function_call", "audio", "web_search_options", "prediction",
    "modalities", "prompt_embeds", "conversation", "previous_response_id", "background", "prompt",
})  # fmt: skip


class JsonSchema(Wire):
    """A schema, and its name."""

    name: str = "answer"
    schema_: Annotated[Json, Field(alias="schema")]
    strict: bool | None = None


class TextFormat(Wire):
    """Any text."""

    type: Literal["text"]


class JsonFormat(Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Wire):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StructuredOutputs(Wire):
    """Other forms of answers: exactly one of them."""

    regex: str | None = None
    choice: Annotated[list[str], Field(min_length=1, max_length=256)] | None = None
    json_: Annotated[Json | None, Field(alias="json")] = None


class StreamOptions(Wire):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None


class ChatRequest(Wire):
    """A question as OpenAI's clients write it, with vLLM's additional fields."""

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
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None
    cache_salt: Annotated[str, Field(max_length=256)] | None = None

    @classmethod
    def parse(cls, body: bytes) -> "ChatRequest":
        """Read a request. Raises ApiError."""
        value = parse_object(body)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise first_problem(error, value) from None

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def question(self, limits: Limits) -> Question:
        """Return what is asked. Raises ApiError for what cannot be had."""
        refuse(self.model_extra or {})
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
        return Question(
            model=self.model,
            turns=turns_of(self.messages, param="messages"),
            options=self._options(limits),
            max_tokens=most if most is not None else other,
            ignore_eos=bool(self.ignore_eos),
            salt=self.cache_salt or self.prompt_cache_key or "",
            unknown=unknown_of(self.model_extra or {}),
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
        options["num_answers"] = self._checked(self.n or 1, limits.answers, "n")
        options["stop"] = stops_of(self.stop, limits)
        biases = self.logit_bias or {}
        self._checked(len(biases), limits.logit_biases, "logit_bias")
        options["logit_bias"] = {int(token): bias for token, bias in biases.items()}
        options["logprobs"] = self._logprobs()
        options["end_ids"] = tuple(self.stop_token_ids or ())
        options.update(form_of(self.response_format, self.structured_outputs, limits))
        return options

    def _logprobs(self) -> int | None:
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError("top_logprobs is given without logprobs: true", param="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None

    @staticmethod
    def _checked(value: int, most: int, param: str) -> int:
        if value > most:
            raise ApiError(f"{param} is {value}; expected at most {most}", param=param)
        return value


def refuse(extra: Json) -> None:
    """Raise ApiError where a field would change the answer and cannot be had."""
    for name in sorted(REFUSED & set(extra)):
        if extra[name] not in (None, [], False, ["text"]):
            raise ApiError(
                f"{name} is not supported here; leave it out",
                code="unsupported_parameter",
                param=name,
            )
    if extra.get("store"):
        raise ApiError(
            "store: nothing is kept here; leave it out or say false",
            code="unsupported_parameter",
            param="store",
        )


def unknown_of(extra: Json) -> tuple[str, ...]:
    """Return the names of fields that mean nothing here."""
    return tuple(sorted(set(extra) - WITHOUT_EFFECT - REFUSED))


def stops_of(stop: str | list[str] | None, limits: Limits) -> tuple[str, ...]:
    """Return the words that end an answer. Raises ApiError."""
    words = (stop,) if isinstance(stop, str) else tuple(stop or ())
    most = limits.stop_characters
    if len(words) > limits.stops or not all(0 < len(word) <= most for word in words):
        raise ApiError(
            f"stop: expected at most {limits.stops} strings of 1 to {most} characters", param="stop"
        )
    return words


def form_of(
    wanted: TextFormat | JsonFormat | SchemaFormat | None,
    other: StructuredOutputs | None,
    limits: Limits,
) -> SamplingOptions:
    """Return the form an answer must have. Raises ApiError."""
    forms: list[SamplingOptions] = []
    if isinstance(wanted, JsonFormat):
        forms.append({"json_schema": '{"type": "object"}'})
    if isinstance(wanted, SchemaFormat):
        schema = wanted.json_schema.schema_
        forms.append({"json_schema": _schema(schema, limits, "response_format.json_schema.schema")})
    if other is not None:
        if other.json_ is not None:
            schema = _schema(other.json_, limits, "structured_outputs.json")
            forms.append({"json_schema": schema})
        if other.regex is not None:
            forms.append({"regex": other.regex})
        if other.choice is not None:
            forms.append({"choices": tuple(other.choice)})
    if len(forms) > 1:
        raise ApiError("more than one form of the answer is given", param="structured_outputs")
    return forms[0] if forms else {}


def _schema(schema: Json, limits: Limits, param: str) -> str:
    text = json.dumps(schema)
    depth = depth_of(schema)
    if len(text) > limits.schema_bytes or depth > limits.schema_depth:
        raise ApiError(
            f"{param}: {len(text):,} characters, {depth} deep; expected at most "
            f"{limits.schema_bytes:,} and {limits.schema_depth}",
            param=param,
        )
    return text
