from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from modules.prior.pairs import Pairs, check_pairs


def made(**changed: Any) -> Pairs:
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(6, 8, generator=generator), dim=-1) for _ in range(2))
    values = {"image": image, "text": text, "tokens": torch.randn(6, 3, 8, generator=generator), "key": tuple("abcdef")}
    return Pairs(**{**values, **changed})


def test_sound_pairs_pass_in_every_precision() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        check_pairs(made().to("cpu", dtype=dtype), 8)
    check_pairs(made(tokens=None), 8)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"image": made().image * torch.tensor([1, 1, 2, 1, 1, 0.5])[:, None]}, "2 of 6 image .* unit length .* c, f"),
        ({"text": made().text.index_fill(0, torch.tensor([0, 4]), torch.nan)}, "2 of 6 text .* not finite .* a, e"),
        ({"image": torch.zeros(6, 8)}, "6 of 6 image .* not of unit length .samples a, b, c, d, e, …"),
        ({"tokens": made().image[:, None] * torch.inf}, "6 of 6 token states are not finite"),
        ({"tokens": torch.zeros(6, 3, 9)}, "token states are 9 wide but the prior is 8 wide .* say data.tokens=false"),
        ({"text": torch.zeros(6, 4)}, "text embeddings are 4 wide but the prior is 8 wide"),
    ],
)
def test_what_no_prior_should_see_is_refused_in_a_line(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        check_pairs(made(**changed), 8)
    assert "\n" not in str(caught.value)


def test_of_rows_that_are_both_the_worse_fault_is_told() -> None:
    image = made().image.clone()
    image[1], image[2, 0] = 3.0, torch.inf
    with pytest.raises(ValueError, match="1 of 6 image embeddings are not finite .samples c.;"):
        check_pairs(made(image=image), 8)
