"""Which objects a picture holds, from an instances file in COCO's format.

Comes in: instances_*.json as COCO has it (cocodataset.org, "Data format"), of COCO or of anybody's pictures. Goes out:
pictures with the names of the categories annotated on them. Looks at no box and no mask; a crowd is an object too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sightline.evaluate.result_files import read_json, refuse


class Annotated(NamedTuple):
    """A picture: its id, its file's name, the categories on it in the order of the file, each once."""

    id: str
    file_name: str
    objects: tuple[str, ...]


def is_instances(content: object) -> bool:
    """Whether a parsed file is one of instances."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read_instances(path: Path) -> list[Annotated]:
    """The pictures of a file in its order, also those without an object.

    Raises:
        DataError: it is no such file, or an annotation is of a picture or category that it does not name.
    """
    content = read_json(path)
    if not is_instances(content):
        raise refuse(path, "expected COCO's instances format: images, annotations, categories")
    return pictures_of(content, path)


def pictures_of(content: Any, path: Path) -> list[Annotated]:
    """The same of a parsed file; `path` is for messages."""
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        found: dict[Any, dict[str, None]] = {image["id"]: {} for image in content["images"]}
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        for number, annotation in enumerate(content["annotations"]):
            image, category = annotation["image_id"], annotation["category_id"]
            if image not in found or category not in names:
                what = f"picture {image}" if image not in found else f"category {category}"
                raise refuse(path, f"annotation {number} is of {what}, which the file does not name")
            found[image][names[category]] = None
    except (KeyError, TypeError) as error:
        raise refuse(
            path, f"an entry is not as COCO has them ({type(error).__name__}: {error}); see cocodataset.org"
        ) from error
    return [Annotated(str(key), files[key], tuple(objects)) for key, objects in found.items()]


def category_names(pictures: Sequence[Annotated]) -> list[str]:
    """The categories that occur, by name."""
    return sorted({name for picture in pictures for name in picture.objects})
