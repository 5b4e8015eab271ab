"""(data set, row) of a mixture -> a sample: as written, fitted into a length, or decoded.

Planning and loading read samples through the same code.
"""

from dataclasses import dataclass, replace
from functools import partial

from onevision.config import Template
from onevision.conversation import Conversation
from onevision.data.fit import FittedSample, fit_apart, fit_sample
from onevision.data.mixture import Mixture, OpenDataset
from onevision.data.packing import PackedRow, share_prefix
from onevision.data.records import ReadRecord, read_record
from onevision.data.styles import PromptStyle, apply_style, is_in_front, place_media_in_front
from onevision.errors import DataError
from onevision.inputs.chat import LabelRule
from onevision.inputs.processor import Example, Processor


@dataclass(frozen=True, kw_only=True)
class SampleReader:
    """Reads samples by the rules of one run. Sent to worker processes."""

    mixture: Mixture
    processor: Processor
    max_tokens: int
    template: Template | None = None
    # FIDELITY: the reference moves the only image of a turn to its front, in training only.
    image_first: bool = False
    num_frames: int = 32
    styles: tuple[PromptStyle, ...] = ()
    # Which tokens are learned; see inputs/chat.py.
    label_rule: LabelRule = "reference"

    def read(self, dataset: int, row: int) -> ReadRecord:
        """Returns a sample as written, with its prompt style. Raises DataError."""
        chosen = self.mixture.datasets[dataset]
        told = read_record(chosen.source.read(row), num_frames=self.num_frames)
        conversation, style = told.conversation, self._style(chosen)
        if is_in_front(row, share=chosen.entry.media_in_front):
            conversation = place_media_in_front(conversation)
        if style is not None:
            conversation = apply_style(conversation, style, row=row)
        return replace(told, conversation=conversation)

    def conversation(self, dataset: int, row: int) -> Conversation:
        """Returns the conversation of a sample. Raises DataError."""
        return self.read(dataset, row).conversation

    def fit(self, dataset: int, row: int) -> FittedSample:
        """Returns a sample that fits, with its exact length. Raises DataError or InputError."""
        return self.fit_conversation(self.conversation(dataset, row), dataset)

    def fit_conversation(self, conversation: Conversation, dataset: int) -> FittedSample:
        """Returns a conversation that fits, by the rules of the run and of its data set.

        Raises DataError or InputError.
        """
        fit = fit_sample
        if self.mixture.datasets[dataset].entry.turns == "apart":
            fit = fit_apart  # whose media come first in any case
        elif self.image_first:
            fit = partial(fit_sample, image_first=True)
        return fit(
            conversation,
            self.processor,
            max_tokens=self.max_tokens,
            template=self.template,
            label_rule=self.label_rule,
        )

    def examples(self, fitted: FittedSample) -> list[Example]:
        """Decodes what is learned of a sample: one example, or one a question that stands apart."""
        first = self.processor.example(fitted.outline)
        outlines = (replace(fitted.outline, pieces=pieces) for pieces in fitted.branches)
        return [first, *(self.processor.example(one, crops=first.crops) for one in outlines)]

    def decode(self, dataset: int, row: int) -> PackedRow:
        """Returns a sample with its pixels. Raises DataError or InputError."""
        return share_prefix(self.examples(self.fit(dataset, row)))

    def locate(self, dataset: int, row: int) -> str:
        """Returns a sample's name for messages: "coco.json, row 7"."""
        return f"{self.mixture.datasets[dataset].entry.name}, row {row}"

    def _style(self, dataset: OpenDataset) -> PromptStyle | None:
        name = dataset.entry.prompt_style
        if name is None:
            return None
        for style in self.styles:
            if style.name == name:
                return style
        known = ", ".join(style.name for style in self.styles) or "none"
        raise DataError(
            f"data set {dataset.entry.name!r}: prompt_style is {name!r}; known styles: {known}"
        )
