"""Charts hold what they are given: on the page's grid, and in words."""

from __future__ import annotations

from unveil.app.report import charts


def test_every_value_is_in_one_bar() -> None:
    values = [-0.02, 0.0, 0.049, 0.05, 0.5, 0.999, 1.0]
    chart = charts.build_histogram(values)
    told = [int(bar.text.split()[0]) for bar in chart.bars]
    assert sum(told) == len(values)
    assert told[-1] == 2, "1 itself belongs to the last"
    assert f"{len(values)} images" in chart.description
    assert chart.left <= chart.mean.at <= chart.right
    assert charts.build_histogram([]) is None


def test_losses_share_a_chart_and_numbers_of_ciphertexts_have_one_each() -> None:
    named = {
        "generator_loss": [[0, 2.0], [1, 1.0]],
        "discriminator_loss": [[0, 1.0], [1, 1.5]],
        "ssim_by_ciphertexts": [[1, -0.05], [2, 0.4], [4, 1.0]],
        "once": [[0, 1.0]],
    }
    drawn = charts.build_curve_charts(named)
    assert [chart.title for chart in drawn] == ["Losses", "SSIM by ciphertexts"]
    assert [line.name for line in drawn[0].series] == ["generator_loss", "discriminator_loss"]


def test_a_long_curve_is_thinned_to_what_can_be_seen_and_keeps_its_ends() -> None:
    (chart,) = charts.build_curve_charts({"loss": [[i, 1 / (1 + i)] for i in range(10_000)]})
    spots = chart.series[0].path.split()
    assert len(spots) <= 302
    across = [float(spot.split(",")[0]) for spot in spots]
    assert (across[0], across[-1]) == (chart.left, chart.right)
