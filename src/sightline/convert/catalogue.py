"""Every dataset that can be converted.

Comes in: nothing. Goes out: `FORMATS`. Pictures are where LLaVA-1.5's README puts them, below one image root:
`coco/train2017`, `gqa/images`, `ocr_vqa/images`, `textvqa/train_images`, `vg/VG_100K` and `VG_100K_2`. The pictures of
COCO's train2014 are all in train2017. Other datasets lie in folders of their own.
"""

from __future__ import annotations

from sightline.convert import captions, choices, conversations, questions, regions
from sightline.convert.formats import Format

_COCO = {"train": "coco/train2017/{id:012d}.jpg", "val": "coco/val2014/COCO_val2014_{id:012d}.jpg"}
_COCO_2017 = {"train": "coco/train2017/{id:012d}.jpg", "val": "coco/val2017/{id:012d}.jpg"}
_TEXT = dict.fromkeys(("train", "val"), "textvqa/train_images/{id}.jpg")
_REFERRED = "refs(unc).json, refs(umd).json or refs(google).json (docs: from the pickle); instances.json"
_ROSETTA = "TextVQA_Rosetta_OCR_v0.2_{train,val}.json"


def _referring(name: str, *tests: str) -> Format:
    splits = dict.fromkeys(("train", "val", *tests), _COCO["train"])
    about = f"{name}: phrases and boxes, both ways"
    return Format(about=about, files=_REFERRED, read=regions.refcoco, splits=splits, defaults={"boxes": "llava"})


FORMATS: dict[str, Format] = {
    "vqav2": Format(
        about="VQA v2: questions with short answers",
        files="v2_OpenEnded_mscoco_{train,val}2014_questions.json, v2_mscoco_{train,val}2014_annotations.json",
        read=questions.vqav2,
        splits=_COCO,
    ),
    "gqa": Format(
        about="GQA, balanced: questions with short answers",
        files="{train,val,testdev}_balanced_questions.json",
        read=questions.gqa,
        splits=dict.fromkeys(("train", "val", "testdev"), "gqa/images/{id}.jpg"),
    ),
    "okvqa": Format(
        about="OK-VQA: questions that need knowledge",
        files="OpenEnded_mscoco_{train,val}2014_questions.json, mscoco_{train,val}2014_annotations.json",
        read=questions.okvqa,
        splits=_COCO,
    ),
    "aokvqa": Format(
        about="A-OKVQA: questions with options, direct answers, or both",
        files="aokvqa_v1p0_{train,val}.json",
        read=choices.aokvqa,
        splits=_COCO_2017,
        defaults={"answers": "choice"},
    ),
    "ocrvqa": Format(
        about="OCR-VQA: questions about book covers",
        files="dataset.json",
        read=questions.ocrvqa,
        splits=dict.fromkeys(questions.OCRVQA_SPLITS, "ocr_vqa/images/{id}.jpg"),
    ),
    "textcaps": Format(
        about="TextCaps: captions of pictures with words",
        files=f"TextCaps_0.1_{{train,val}}.json, {_ROSETTA}",
        read=captions.textcaps,
        splits=_TEXT,
        defaults={"captions": "first", "ocr": True},
    ),
    "textvqa": Format(
        about="TextVQA: questions about words in pictures",
        files=f"TextVQA_0.5.1_{{train,val}}.json, {_ROSETTA}",
        read=questions.textvqa,
        splits=_TEXT,
        defaults={"ocr": True},
    ),
    "scienceqa": Format(
        about="ScienceQA: school problems, with and without pictures",
        files="problems.json, pid_splits.json",
        read=choices.scienceqa,
        splits=dict.fromkeys(("train", "val", "test", "trainval", "minival", "minitest"), "scienceqa/{id}/{name}"),
        defaults={"prompt": "CQM-A"},
    ),
    "refcoco": _referring("RefCOCO", "testA", "testB"),
    "refcoco+": _referring("RefCOCO+", "testA", "testB"),
    "refcocog": _referring("RefCOCOg", "test"),
    "vg": Format(
        about="Visual Genome: descriptions of regions and boxes, both ways",
        files="region_descriptions.json, image_data.json",
        read=regions.visual_genome,
        splits={"train": "vg/{folder}/{id}.jpg"},
        defaults={"boxes": "llava", "per_picture": 10},
    ),
    "coco": Format(
        about="COCO captions",
        files="captions_{train,val}2017.json or captions_{train,val}2014.json",
        read=captions.coco,
        splits=dict.fromkeys(("train", "val"), "coco/{folder}/{name}"),
        defaults={"captions": "first"},
    ),
    "flickr30k": Format(
        about="Flickr30k captions",
        files="dataset_flickr30k.json, or results_20130124.token without splits",
        read=captions.flickr30k,
        splits=dict.fromkeys(("train", "val", "test"), "flickr30k-images/{name}"),
        defaults={"captions": "first"},
    ),
    "cc3m": Format(
        about="Conceptual Captions 3M, for stage 1",
        files="Train_GCC-training.tsv or Validation_GCC-1.1.0-Validation.tsv",
        read=captions.cc3m,
        splits={"train": "GCC_train_{index:09d}.jpg", "val": "GCC_val_{index:09d}.jpg"},
    ),
    "laion-cc-sbu": Format(
        about="LLaVA's LAION-CC-SBU 558K, for stage 1",
        files="blip_laion_cc_sbu_558k_meta.json or blip_laion_cc_sbu_558k.json",
        read=captions.laion_cc_sbu,
        splits={"train": "{name}"},
    ),
    "sharegpt": Format(
        about="ShareGPT conversations, text alone",
        files="ShareGPT_V3_unfiltered_cleaned_split.json, or sg_90k_part1.json and sg_90k_part2.json",
        read=conversations.sharegpt,
        splits={"train": ""},
    ),
    "llava-instruct": Format(
        about="LLaVA-Instruct, as it is",
        files="llava_instruct_150k.json or llava_instruct_80k.json",
        read=conversations.instruct,
        splits={"train": "coco/train2017/{name}"},
    ),
}
"""Name -> dataset."""
