"""What recipes may ask of an encoder beside classes: retrieval, nearest neighbours, filtering."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from configs.schema.parts import MISSING


@dataclass
class RetrievalConfig:
    """Looking for pictures by a picture: ``shards`` names the queries.

    Attributes:
        gallery: what is searched, as ``shards``; null searches the queries' own set, each query left out.
        gallery_split: of the gallery.
        relevance: ``class``: pictures of the query's class; ``revisited``: as the answers of ROxford and RParis in
            ``shards`` say, which hold queries and gallery.
        difficulty: of the revisited sets, what an attack wants to displace: ``medium`` or ``hard``.
        attack: ``untargeted``, something irrelevant is to come first; ``targeted``, one item that the seed chooses;
            ``gallery``, irrelevant gallery images that the seed chooses are changed to be found by the query.
        k: places that recall is told at.
        poisoned: gallery images that are changed for each query, all at once.
        first: places of a query that they are to get into.
        blur: write and show no picture plainly.
        seed: of items and images that are chosen.
    """

    gallery: str | None = None
    gallery_split: str = "train"
    relevance: Literal["class", "revisited"] = "class"
    difficulty: Literal["medium", "hard"] = "medium"
    attack: Literal["untargeted", "targeted", "gallery"] = "untargeted"
    k: list[int] = field(default_factory=lambda: [1, 5, 10])
    poisoned: int = 1
    first: int = 10
    blur: bool = False
    seed: int = 0


@dataclass
class NeighboursConfig:
    """Classes by labelled examples, such as safe and unsafe: ``shards`` names the pictures that are judged.

    Attributes:
        examples: labelled pictures, as ``shards``.
        examples_split: of the examples.
        head: ``knn``, the nearest examples vote; ``linear_probe``, a line between them.
        k: neighbours that vote.
        votes: ``majority``, or ``distance``: each counts exp(cosine / temperature).
        temperature: of those votes and of the soft margin that attacks ascend.
        positive: class that is to be detected among all others; its misses and false alarms are told.  null asks for
            every class and tells none.
        false_positive_rate: the answer is ``positive`` beyond the threshold that so many of the other tuning pictures
            exceed (``tune_split``, clean), of the soft margin instead of votes; null asks which side is ahead.
        blur: write and show pictures of the positive class blurred only.
    """

    examples: str = MISSING
    examples_split: str = "train"
    head: Literal["knn", "linear_probe"] = "knn"
    k: int = 5
    votes: Literal["majority", "distance"] = "majority"
    temperature: float = 0.01
    positive: str | None = None
    false_positive_rate: float | None = None
    blur: bool = True


@dataclass
class FilteringConfig:
    """Pictures too near to a reference set are filtered out: ``shards`` names the pictures that are let in or not.

    The threshold is the one that so many of the tuning pictures exceed (``tune_split``), never of the judged ones.

    Attributes:
        reference: pictures, as ``shards``, or a folder of pictures without classes.
        reference_split: of the reference set.
        false_positive_rate: share of wanted pictures that may be filtered out.
        positive: class of ``shards`` that is to be filtered out (of a reference set with that class, only its
            pictures count); null takes near copies of the reference pictures, and wants all of ``shards``.
        blur: write and show pictures that are to be filtered out blurred only.
    """

    reference: str = MISSING
    reference_split: str = "train"
    false_positive_rate: float = 0.01
    positive: str | None = None
    blur: bool = True
