"""Conversation -> ModelInputs for a language model without a vision encoder: media are refused."""

from collections.abc import Sequence

from onevision.config import Template
from onevision.conversation import Conversation
from onevision.errors import InputError
from onevision.inputs.chat import LabelRule
from onevision.inputs.processor import MediaFact, Outline, Processor


class TextProcessor(Processor):
    """A processor of text alone."""

    def outline(
        self,
        conversation: Conversation,
        *,
        template: Template | None = None,
        label_rule: LabelRule = "reference",
        image_first: bool = False,
        facts: Sequence[MediaFact] | None = None,
    ) -> Outline:
        """Lays out a conversation. Raises InputError for media."""
        if conversation.media:
            raise InputError(
                "this model is a language model without a vision encoder; give it text alone"
            )
        return super().outline(
            conversation,
            template=template,
            label_rule=label_rule,
            image_first=image_first,
            facts=facts,
        )
