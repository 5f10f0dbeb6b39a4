"""AutoAttack (arXiv:2003.01690): four attacks that fail in different ways, one after the other."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from modules.attacks.apgd import APGD, APGDLoss
from modules.attacks.base import Attack, LabelLoss, Labels, Search
from modules.attacks.fab import FAB
from modules.attacks.square import Square
from modules.choices import check_choice
from modules.perturb.losses import LABEL_LOSSES, Loss
from modules.perturb.threat import Threat

Version = Literal["standard", "plus", "rand", "custom"]
Member = Literal["apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square"]
MEMBERS: dict[Version, tuple[Member, ...]] = {
    "standard": ("apgd_ce", "apgd_t", "fab_t", "square"),
    "plus": ("apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"),
    "rand": ("apgd_ce", "apgd_dlr"),
}
_LOSSES: dict[Member, APGDLoss] = {"apgd_ce": "ce", "apgd_dlr": "dlr", "apgd_t": "dlr_targeted"}


class AutoAttack(Attack):
    """AutoAttack (arXiv:2003.01690; under l1 arXiv:2103.01208), with the reference package's settings.

    All members work on one search, each with noise of its own; where the search is compact, only on images that are
    still standing.  The search's ``fallen`` then says how many images each member was the first to fool.

    - ``standard``: apgd_ce; apgd_t and fab_t with 9 targets; square.  Under l1 apgd_ce five times and apgd_t with 5
      targets, both first in larger balls.
    - ``plus``: apgd_ce, apgd_dlr and fab, five times each; square; apgd_t and fab_t with 9 targets.
    - ``rand``: apgd_ce and apgd_dlr, for the caller to average over ``draws`` = 20 draws of the defence's noise.
    - ``custom``: ``attacks`` in their order; apgd_ce, apgd_dlr and fab five times each, as the reference's constructor
      has them (FARE's and CLIPure's tables: apgd_ce, apgd_t).

    Differs from the reference where there are few classes, which it warns of and then crashes: with 2 classes the DLR
    losses give way to the margin, with 3 the targeted one to a targeted margin, and there are never more targets than
    wrong classes.  Each such change is a sentence in the search's ``notes``.  A point counts that any member looked at,
    whatever it was looking for.

    Args:
        threat: the ball.
        version: which members.
        attacks: the members of version ``custom``.
        steps: of every gradient attack.
        queries: of Square.
        targets: of ``apgd_t`` and ``fab_t``; None is the version's number.
        restarts: of every member; None is the version's number.

    Raises:
        ValueError: ``attacks`` given with another version than ``custom``, or missing, unknown or repeated there.
    """

    def __init__(
        self,
        threat: Threat,
        /,
        *,
        version: Version = "standard",
        attacks: list[str] | None = None,
        steps: int = 100,
        queries: int = 5000,
        targets: int | None = None,
        restarts: int | None = None,
    ) -> None:
        check_choice("version", version, Version)
        super().__init__(threat, restarts=1 if restarts is None else restarts)
        self.version: Version = version
        self.attacks = _members(version, attacks)
        self.steps, self.queries, self.targets = steps, queries, targets
        self._given_restarts = restarts
        self.members()  # so that settings out of range are refused here, not hours later

    @property
    def draws(self) -> int:
        """How many draws of a random defence every loss is to be averaged over: 20 for ``rand``, else 1."""
        return 20 if self.version == "rand" else 1

    @property
    def scale_free(self) -> bool:
        """Whether one of its members is."""
        return any(member.scale_free for member in self.members().values())

    def members(self, classes: int = 10) -> dict[Member, Attack]:
        """The attacks in the order in which they run, as they are against a model with so many classes."""
        return {name: self._build(name).suited(classes)[0] for name in self.attacks}

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The first member's mostly: cross-entropy."""
        return [(LABEL_LOSSES["ce"], (y,))]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        """Auto-PGD's answer: the other members need labels."""
        return APGD(self.threat, steps=self.steps).perturb(loss, x, stream)

    def _run(self, search: Search) -> None:
        classes = search.clean.shape[1]
        salt, standing = search.salt, int((search.margin <= 0).sum())
        for name in self.attacks:
            member, changes = self._build(name).suited(classes)
            search.notes += [f"{name} {change}" for change in changes]
            search.salt = f"{salt}{name}/"
            member.on(search)
            left = int((search.margin <= 0).sum())
            search.fallen[name] = standing - left
            standing = left
        search.salt = salt

    def _build(self, name: Member) -> Attack:
        restarts = self._restarts_of(name)
        if name == "square":
            return Square(self.threat, queries=self.queries, restarts=restarts)
        targets = self._targets_of(name)
        if name == "fab" or name == "fab_t":
            return FAB(self.threat, steps=self.steps, restarts=restarts, targets=targets if name == "fab_t" else 0)
        return APGD(
            self.threat,
            loss=_LOSSES[name],
            steps=self.steps,
            targets=targets,
            restarts=restarts,
            larger_eps=self.version == "standard" and self.threat.norm == "l1",
        )

    def _restarts_of(self, name: Member) -> int:
        if self._given_restarts is not None:
            return self._given_restarts
        if self.version == "standard":
            return 5 if name == "apgd_ce" and self.threat.norm == "l1" else 1
        return 5 if name in ("apgd_ce", "apgd_dlr", "fab") and self.version != "rand" else 1

    def _targets_of(self, name: Member) -> int:
        if self.targets is not None:
            return self.targets
        return 5 if name == "apgd_t" and self.version == "standard" and self.threat.norm == "l1" else 9


def _members(version: Version, attacks: list[str] | None) -> tuple[Member, ...]:
    if version != "custom":
        if attacks is not None:
            raise ValueError(f"attacks={attacks} goes with version 'custom'; version {version!r} has its own")
        return MEMBERS[version]
    if not attacks:
        raise ValueError("version 'custom' of AutoAttack needs attacks, for instance ['apgd_ce', 'apgd_t']")
    known: dict[str, Member] = {name: name for name in get_args(Member)}
    for number, name in enumerate(attacks):
        if name not in known:
            raise ValueError(f"unknown attack {name!r} in AutoAttack; choose from: {', '.join(known)}")
        if name in attacks[:number]:
            raise ValueError(f"attacks={attacks} names {name!r} twice; set restarts to repeat an attack")
    return tuple(known[name] for name in attacks)
