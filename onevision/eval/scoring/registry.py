"""The name in a task file's `scorer:` -> the scorer.

Names ending in "_now" follow lmms-eval 0.7.3. All others follow 0.2.3, current when the paper was
written, or the benchmark itself if it has no task there.
"""

from collections.abc import Mapping
from types import MappingProxyType

from onevision.eval.scoring import (
    boxes,
    interleave,
    json_values,
    mantis,
    mathvista,
    mmbench,
    mmmu,
    multiple_choice,
    numbers,
    own,
    rouge,
    science_qa,
    text,
    video,
    vqa,
    yes_no,
)
from onevision.eval.scoring.scorer import Scorer

__all__ = ["SCORERS", "Scorer"]

SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        "a_okvqa_choice": vqa.A_OKVQA_CHOICE,
        "a_okvqa_direct": vqa.A_OKVQA_DIRECT,
        "ai2d": multiple_choice.AI2D,
        "anls": text.ANLS,
        "blink": multiple_choice.BLINK,
        "chartqa": numbers.RELAXED_ACCURACY,
        "egoschema": video.EGOSCHEMA,
        "exact_match": text.EXACT_MATCH,
        "gqa": text.EXACT_MATCH,
        "heldout": text.HELDOUT,
        "interleave_bench": interleave.INTERLEAVE_BENCH,
        "interleave_bench_original": interleave.INTERLEAVE_BENCH_ORIGINAL,
        "json": json_values.JSON_VALUES,
        "longvideobench": video.LONGVIDEOBENCH,
        "longvideobench_now": video.LONGVIDEOBENCH_NOW,
        "mantis": mantis.MANTIS,
        "mathvista": mathvista.MATHVISTA,
        "mcq": multiple_choice.MCQ,
        "mlvu": video.MLVU,
        "mlvu_now": video.MLVU_NOW,
        "mmbench": mmbench.MMBENCH,
        "mme": yes_no.MME,
        "mmmu": mmmu.MMMU,
        "mmstar": multiple_choice.MMSTAR,
        "mmstar_now": multiple_choice.MMSTAR_NOW,
        "muirbench": multiple_choice.MUIRBENCH,
        "mvbench": video.MVBENCH,
        "nextqa": video.NEXTQA,
        "ok_vqa": vqa.VQA,
        "own": own.OWN,
        "perceptiontest": video.PERCEPTIONTEST,
        "pointing": boxes.POINTING,
        "pope": yes_no.POPE,
        "realworldqa": multiple_choice.REALWORLDQA,
        "realworldqa_now": multiple_choice.REALWORLDQA_NOW,
        "refcoco": boxes.REFCOCO,
        "relaxed_accuracy": numbers.RELAXED_ACCURACY,
        "rouge_l": rouge.ROUGE_L,
        "science_qa": science_qa.SCIENCE_QA,
        "science_qa_lea": science_qa.SCIENCE_QA_LEA,
        "science_qa_now": science_qa.SCIENCE_QA_NOW,
        "seedbench": multiple_choice.SEEDBENCH,
        "textvqa": vqa.VQA,
        "videomme": video.VIDEOMME,
        "videomme_now": video.VIDEOMME_NOW,
        "vqa": vqa.VQA,
        "vqav2": vqa.VQAV2,
        "vqav2_now": vqa.VQAV2_NOW,
    }
)
