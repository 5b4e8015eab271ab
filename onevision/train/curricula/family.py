"""The stages of the paper's family: LLaVA v1 to NeXT, Interleave, Video and Critic."""

from dataclasses import replace

from onevision.train.curricula.paper import ALIGN, KNOWLEDGE, ONEVISION

# arXiv 2304.08485 §4.2 and appendix; 2310.03744 table 9; the archived scripts of LLaVA-NeXT. Image
# rules and templates are the model's own.
LLAVA_V1_ALIGN = replace(
    ALIGN,
    mixture="llava_v1_align.yaml",
    global_batch=128,
    max_tokens=2048,
    learning_rate=2e-3,
)
LLAVA_V1_INSTRUCT = replace(
    LLAVA_V1_ALIGN,
    name="instruct",
    starts_from=("align",),
    trainable=("projector", "language_model"),
    template=None,
    resolution="target",
    mixture="llava_v1_instruct.yaml",
    epochs=3,
    global_batch=32,
    learning_rate=2e-5,
)
# Learns science questions in place of instructions; half of them have no picture.
LLAVA_V1_SCIENCE = replace(
    LLAVA_V1_INSTRUCT, name="science_qa", mixture="llava_v1_science_qa.yaml", epochs=12
)
LLAVA_1_5_ALIGN = replace(
    LLAVA_V1_ALIGN, mixture="llava_1.5_align.yaml", global_batch=256, learning_rate=1e-3
)
LLAVA_1_5_INSTRUCT = replace(
    LLAVA_V1_INSTRUCT, mixture="llava_1.5_instruct.yaml", epochs=1, global_batch=128
)
LLAVA_NEXT_INSTRUCT = replace(
    LLAVA_1_5_INSTRUCT,
    trainable=KNOWLEDGE.trainable,
    mixture="llava_next_instruct.yaml",
    max_tokens=4096,
    learning_rate=1e-5,
    vision_learning_rate=2e-6,
)
# LLaVA-NeXT-Interleave (arXiv 2407.07895) continues from a single-image model; its config says that
# the vision encoder is frozen. Its rate and batch are not published: those of the stage before.
INTERLEAVE_INSTRUCT = replace(LLAVA_NEXT_INSTRUCT, max_tokens=32768)
INTERLEAVE = replace(
    INTERLEAVE_INSTRUCT,
    name="interleave",
    starts_from=("instruct",),
    trainable=LLAVA_1_5_INSTRUCT.trainable,
    mixture="llava_interleave.yaml",
    vision_learning_rate=None,
)
# LLaVA-Video (arXiv 2410.02713; the released scripts): the last stage with videos of its own, told
# when frames are shown, from the single-image model.
VIDEO = replace(
    ONEVISION, name="video", mixture="llava_video.yaml", num_frames=64, video_rule="target"
)
# LLaVA-Critic (arXiv 2410.02712): grades with their reasons, learned by the finished model.
CRITIC = replace(
    ONEVISION,
    name="critic",
    starts_from=("onevision",),
    mixture="llava_critic.yaml",
    global_batch=32,
    learning_rate=2e-6,
)
