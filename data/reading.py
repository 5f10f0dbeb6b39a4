"""How a training reads its pictures: in which order, from which cache, with how much damage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.shard_cache import DEFAULT_GIB, GIB, ShardCache
from data.shard_index import IndexedShards
from data.shard_order import ShardOrder


@dataclass(frozen=True)
class Reading:
    """Settings of a reader; the defaults suit local shards and keep going.

    Attributes:
        order: ``samples`` mixes all samples, ``shards`` those of a few shards at a time; None takes the first for
            local shards and the second for those elsewhere.
        window: shards that are open at a time with ``shards``.
        max_bad: share of bad pictures above which passing over them becomes an error.
        cache: GiB that shards from elsewhere may take on this machine.
        cache_dir: where they are kept; None takes the user's cache.
    """

    order: Literal["samples", "shards"] | None = None
    window: int = 8
    max_bad: float = 1.0
    cache: float = DEFAULT_GIB
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if self.cache <= 0:
            raise ValueError(f"data.cache of {self.cache} GiB holds nothing; name the GiB that shards may take")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"data.max_bad = {self.max_bad} is no share; choose 0..1")

    def shard_cache(self) -> ShardCache:
        """The cache of shards from elsewhere."""
        return ShardCache(self.cache_dir, limit=int(self.cache * GIB))

    def shuffle(self, shards: IndexedShards) -> bool | ShardOrder:
        """The order of a training, as ``PositionBatches`` takes it.

        Raises:
            ValueError: it needs more shards at a time than the cache may hold.
        """
        by_shards = self.order == "shards" or (self.order is None and shards.remote)
        order = ShardOrder(shards.counts, self.window) if by_shards else True
        if shards.remote:
            sizes = sorted(shards.sizes(), reverse=True)
            if by_shards:
                sizes = sizes[: self.window + 1]  # one more comes while one goes
                what, remedy = f"{self.window} shards (data.window) and the next one", "lower data.window"
            else:
                what, remedy = "all shards, which order=samples needs,", "say data.order=shards"
            if sum(sizes) > self.cache * GIB:
                has = f"the cache may hold {self.cache:.3g}"
                raise ValueError(f"{what} take {sum(sizes) / GIB:.3g} GiB and {has}; raise data.cache or {remedy}")
        return order
