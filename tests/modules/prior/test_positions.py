from __future__ import annotations

import math

import pytest
import torch

from modules.prior.positions import RelativeBias, Rotary, distance_bucket


@pytest.mark.parametrize(
    ("distance", "bucket"),
    [(0, 0), (15, 15), (16, 16), (20, 17), (32, 21), (64, 26), (127, 31), (128, 31), (300, 31)],
)
def test_distances_fall_into_the_buckets_measured_in_the_reference(distance: int, bucket: int) -> None:
    assert distance_bucket(torch.tensor(distance)).item() == bucket


def test_buckets_follow_the_closed_form_at_every_distance() -> None:
    expected = [
        k if k < 16 else min(31, 16 + math.floor(16 * math.log(k / 16) / math.log(8) + 1e-12)) for k in range(400)
    ]
    assert distance_bucket(torch.arange(400)).tolist() == expected


def test_rotary_turns_channel_0_by_one_radian_and_leaves_channel_40() -> None:
    x = torch.zeros(2, 64)
    x[1, 0], x[1, 40] = 1.0, 1.0
    turned = Rotary(32)(x)[1]
    expected = torch.zeros(64)
    expected[0], expected[1], expected[40] = 0.5403, 0.8415, 1.0
    torch.testing.assert_close(turned, expected, rtol=0, atol=5e-5)


def test_rotary_multiplies_complex_pairs_by_their_phase() -> None:
    x = torch.randn(2, 3, 7, 20, generator=torch.Generator().manual_seed(0)).double()
    turned = Rotary(16)(x, start=5)
    for n in range(7):
        for pair in range(8):
            phase = (5 + n) * 10000 ** (-2 * pair / 16)
            z = torch.view_as_complex(x[:, :, n, 2 * pair : 2 * pair + 2].contiguous())
            expected = torch.view_as_real(z * complex(math.cos(phase), math.sin(phase)))
            got = turned[:, :, n, 2 * pair : 2 * pair + 2]
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert torch.equal(turned[..., 16:], x[..., 16:])


def test_the_bias_counts_columns_with_the_null_and_masks_the_future() -> None:
    bias = RelativeBias(heads=3)
    table = bias.relative_attention_bias.weight
    got = bias(0, 40)
    assert got.shape == (3, 40, 41)
    for i in range(40):
        for column in range(41):
            if column > i + 1:
                assert torch.isinf(got[:, i, column]).all()
            else:
                bucket = distance_bucket(torch.tensor(max(i - column, 0))).item()
                assert torch.equal(got[:, i, column], table[int(bucket)])


def test_the_bias_of_later_queries_is_the_end_of_the_whole_bias() -> None:
    bias = RelativeBias(heads=2)
    assert torch.equal(bias(7, 3), bias(0, 10)[:, 7:])
