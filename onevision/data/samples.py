"""One sample of a mixture: (part, row) -> a Row to learn from. The same code plans and loads."""

from dataclasses import dataclass

from onevision.config import Template
from onevision.conversation import Conversation
from onevision.data.mixture import Mixture, Part
from onevision.data.packing import PackedRow, share_prefix
from onevision.data.planning import FittedSample, fit_sample
from onevision.data.records import to_conversation
from onevision.data.styles import PromptStyle, apply_style
from onevision.errors import DataError
from onevision.inputs.chat import LabelRule
from onevision.inputs.processor import Processor


@dataclass(frozen=True, kw_only=True)
class SampleReader:
    """Reads samples by the rules of one run. Travels to worker processes."""

    mixture: Mixture
    processor: Processor
    max_tokens: int
    template: Template | None = None
    label_rule: LabelRule = "reference"
    # FIDELITY: the reference moves the only image of a turn to its front, in training alone.
    image_first: bool = False
    num_frames: int = 32
    styles: tuple[PromptStyle, ...] = ()

    def conversation(self, part: int, row: int) -> Conversation:
        """Return a sample as it is written, with its prompt style. Raises DataError."""
        chosen = self.mixture.parts[part]
        conversation = to_conversation(chosen.source.read(row), num_frames=self.num_frames)
        style = self._style(chosen)
        return conversation if style is None else apply_style(conversation, style, row=row)

    def fitted(self, part: int, row: int) -> FittedSample:
        """Return a sample that fits, with its exact length. Raises DataError or InputError."""
        return fit_sample(
            self.conversation(part, row),
            self.processor,
            max_tokens=self.max_tokens,
            template=self.template,
            label_rule=self.label_rule,
            image_first=self.image_first,
        )

    def row(self, part: int, row: int) -> PackedRow:
        """Decode a sample. Raises DataError or InputError."""
        return share_prefix([self.processor.example(self.fitted(part, row).outline)])

    def where(self, part: int, row: int) -> str:
        """Return how messages call a sample."""
        return f"{self.mixture.parts[part].dataset.name}, row {row}"

    def _style(self, part: Part) -> PromptStyle | None:
        name = part.dataset.prompt_style
        if name is None:
            return None
        for style in self.styles:
            if style.name == name:
                return style
        known = ", ".join(style.name for style in self.styles) or "none"
        raise DataError(
            f"data set {part.dataset.name!r}: prompt_style is {name!r}; known styles: {known}"
        )
