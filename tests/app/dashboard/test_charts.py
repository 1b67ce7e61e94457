"""Charts hold what they are given: on the page's grid, and in words."""

from __future__ import annotations

import itertools

from app.dashboard import charts


def test_a_line_goes_from_its_first_to_its_last_step_whatever_their_order() -> None:
    chart = charts.line("loss", [[20, 0.5], [0, 2.0], [10, None], [30, 0.25]])
    spots = [tuple(map(float, spot.split(","))) for spot in chart.line.split()]
    assert [x for x, _ in spots] == sorted(x for x, _ in spots)
    assert spots[0][0] == chart.left
    assert spots[-1][0] == chart.right
    assert spots[0][1] < spots[-1][1], "the loss falls: on a page that is downwards"
    assert "from 2 at 0 to 0.25 at 30" in chart.summary
    assert charts.line("loss", [[0, 1.0]]) is None


def test_numbers_of_ciphertexts_stand_at_equal_distances() -> None:
    chart = charts.line("ssim_by_ciphertexts", [[1, 0.1], [2, 0.2], [4, 0.9], [8, 1.0]])
    places = [tick.at for tick in chart.across]
    steps = {round(b - a) for a, b in itertools.pairwise(places)}
    assert [tick.text for tick in chart.across] == ["1", "2", "4", "8"]
    assert len(steps) == 1


def test_every_value_is_in_one_bar() -> None:
    values = [-0.02, 0.0, 0.049, 0.05, 0.5, 0.999, 1.0]
    chart = charts.histogram(values, "SSIM")
    told = [int(bar.text.split()[0]) for bar in chart.bars]
    assert sum(told) == len(values)
    assert told[-1] == 2, "1 itself belongs to the last"
    assert f"of {len(values)} images" in chart.summary
    assert charts.histogram([], "SSIM") is None


def test_an_axis_ends_at_round_numbers_around_its_values() -> None:
    flat = charts.line("loss", [[0, 3.0], [1, 3.0]])
    assert len(flat.up) >= 2
    large = charts.line("loss", [[0, 0.0], [100_000, 12_345.0]])
    assert large.across[-1].text == "100k"
    assert all(large.top <= tick.at <= large.bottom for tick in large.up)
