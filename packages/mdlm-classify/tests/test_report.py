"""The card, the page and the figures of an evaluation."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from mdlm_classify.doubt import flip_probability, trust
from mdlm_classify.metrics import measure, wilson
from mdlm_classify.report import figures
from mdlm_classify.report.card import Evaluation, card, worst
from mdlm_classify.report.curve import draws_curve, draws_for, point
from mdlm_classify.report.page import write
from mdlm_classify.scoring.scores import Scores
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.reports import draw_figures

LABELS = ("<b>bad</b>", "good & $so$ on", "\u4e2d\u6587")


def _evaluation(n: int = 60, labels: tuple[str, ...] = LABELS) -> Evaluation:
    noise, rows, c = Noise(9), torch.arange(n), len(labels)
    codes = rows % c
    x = torch.special.ndtri(noise.uniform(rows, c)) * 2
    likelihood = x + torch.eye(c).double()[codes] * 3 - 100
    posterior = likelihood.log_softmax(1)
    se = torch.full((n, c), 0.7).double()
    se.scatter_(1, likelihood.argmax(1, keepdim=True), 0.0)
    scores = Scores(
        log_likelihood=likelihood,
        se=se,
        draws=torch.full((n, c), 4),
        tokens=rows,
        evaluations=torch.full((n,), 4 * c),
        kept=torch.ones(n, c, dtype=torch.bool),
    )
    noisy = {
        draws: posterior + torch.special.ndtri(noise.child(draws).uniform(rows, c))
        for draws in (2, 4)
    }
    curve = draws_curve({**noisy, 8: posterior}, codes)
    return Evaluation(
        labels=labels,
        texts=tuple(f"text <{row}> & more\n" for row in range(n)),
        codes=codes,
        log_posterior=posterior,
        prior=torch.full((c,), 1 / c),
        origin=tuple(f"file.csv:{row + 2}" for row in range(n)),
        scores=scores,
        curve=curve,
        reached=point(5.5, posterior.argmax(1), codes, posterior.argmax(1)),
        facts={"run": "runs/<x>", "temperature": {"a": 0.5, "b": 0.7}, "rows": 60},
    )


@pytest.fixture(scope="module")
def evaluation() -> Iterator[Evaluation]:
    return _evaluation()


class Page(HTMLParser):
    """Checks that elements are closed in order, and keeps tags, text and images."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.images: list[str] = []
        self.outside: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if tag == "img":
            self.images.append(found["src"] or "")
        self.outside += [found[name] or "" for name in ("src", "href") if name in found]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _write(evaluation: Evaluation, folder: Path) -> tuple[dict[str, object], Page, str]:
    page, note = write(evaluation, folder, title="Test & <title>")
    html = page.read_text(encoding="utf-8")
    text = (folder / "evaluation.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=pytest.fail), Page(html), note


def test_the_card_says_what_was_measured(evaluation: Evaluation) -> None:
    plain = card(evaluation)
    metrics = measure(evaluation.codes, evaluation.log_posterior, LABELS)
    assert {name: plain[name] for name in metrics.to_dict()} == metrics.to_dict()
    assert plain["labels"] == list(LABELS)
    assert plain["prior"] == pytest.approx([1 / 3] * 3)
    assert sum(plain["reliability"]["width"]["rows"]) == 60
    assert plain["facts"]["temperature"] == {"a": 0.5, "b": 0.7}
    assert plain["scoring"]["evaluations"] == 720
    assert plain["scoring"]["draws_per_text"] == 4
    assert plain["scoring"]["tokens"] == sum(range(60))
    assert plain["scoring"]["empty_texts"] == 1
    assert evaluation.scores is not None
    flip = flip_probability(evaluation.log_posterior, evaluation.scores)
    assert plain["scoring"]["flip_mean"] == pytest.approx(float(flip.mean()))
    assert plain["scoring"]["flips_over_5_percent"] == int((flip > 0.05).sum()) > 0
    whole, *_, half = plain["coverage"]
    assert whole["share"] == 1
    assert whole["accuracy"] == pytest.approx(metrics.accuracy.value)
    kept = trust(evaluation.log_posterior, flip).argsort(descending=True)[:30]
    assert half["accuracy"] == pytest.approx(
        float(evaluation.right[kept].double().mean())
    )


def test_flips_go_by_the_temperature(evaluation: Evaluation) -> None:
    tau = torch.full((60,), 2.0)
    logs = (evaluation.log_posterior / 2).log_softmax(1)
    cooled = replace(evaluation, log_posterior=logs, tau=tau)
    assert cooled.flip is not None
    assert evaluation.flip is not None
    torch.testing.assert_close(cooled.flip, evaluation.flip)


def test_the_worst_mistakes_come_first(evaluation: Evaluation) -> None:
    listed = worst(evaluation, 1000)
    own = evaluation.log_posterior.gather(1, evaluation.codes[:, None])[:, 0]
    wrong = (~evaluation.right).nonzero()[:, 0].tolist()
    assert [one["row"] for one in listed] == sorted(wrong, key=lambda row: own[row])
    assert len(listed) > 2
    assert worst(evaluation, 2) == listed[:2]
    first, row = listed[0], listed[0]["row"]
    assert first["text"] == evaluation.texts[row]
    assert first["origin"] == f"file.csv:{row + 2}"
    assert first["label"] == LABELS[int(evaluation.codes[row])]
    assert first["predicted"] == LABELS[int(evaluation.log_posterior[row].argmax())]
    assert first["probability"] == pytest.approx(
        float(evaluation.log_posterior[row].exp().max())
    )
    assert first["tokens"] == row


def test_a_long_text_is_cut(evaluation: Evaluation) -> None:
    long = replace(evaluation, texts=("word " * 1000,) * 60)
    assert all(len(one["text"]) < 700 for one in worst(long))


def test_the_page_stands_alone_and_escapes_what_it_shows(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    plain, page, note = _write(evaluation, tmp_path / "new" / "folder")
    assert plain == json.loads(json.dumps(card(evaluation)))
    assert not note
    assert "b" not in page.tags
    assert "Test & <title>" in page.text
    assert "<b>bad</b>" in page.text
    assert "runs/<x>" in page.text
    accuracy = measure(evaluation.codes, evaluation.log_posterior, LABELS).accuracy
    assert f"{100 * accuracy.value:.2f} %" in page.text
    for one in worst(evaluation):
        assert one["text"] in page.text
    assert "The same 60 texts under the same masks" in page.text
    assert len(page.images) == 4
    assert page.outside == page.images  # and nothing is fetched
    assert all(src.startswith("data:image/svg+xml;base64,") for src in page.images)


def test_without_matplotlib_the_page_says_so(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plain, page, note = _write(evaluation, tmp_path)
    assert plain == json.loads(json.dumps(card(evaluation)))
    assert not page.images
    assert "mdlm-classify[plot]" in note
    assert note in page.text


def test_figures_are_the_same_each_time_and_well_formed(
    evaluation: Evaluation,
) -> None:
    drawn, _ = draw_figures(figures.FIGURES, evaluation, package="mdlm-classify")
    assert list(drawn) == ["confusion", "reliability", "answered", "draws"]
    again, _ = draw_figures(figures.FIGURES, evaluation, package="mdlm-classify")
    assert again == drawn
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_figures_show_the_numbers(evaluation: Evaluation) -> None:
    axes = figures.confusion(evaluation).axes[0]
    shown = [text.get_text() for text in axes.texts]
    counts = [str(n) for row in evaluation.metrics.confusion for n in row]
    assert shown == counts
    above, below = figures.reliability(evaluation).axes
    bins = evaluation.reliability()
    dots = above.lines[1]
    assert tuple(dots.get_xdata()) == bins.confidence
    assert tuple(dots.get_ydata()) == bins.accuracy
    assert tuple(bar.get_height() for bar in below.patches) == bins.rows
    curve = figures.curve(evaluation)
    assert curve is not None
    accuracy, agreement, star = curve.axes[0].lines
    values = [one.accuracy.value for one in evaluation.curve]
    assert list(accuracy.get_ydata()) == values
    assert list(agreement.get_ydata())[-1] == 1
    assert list(star.get_xdata()) == [5.5, 5.5]
    axes = figures.answered(evaluation).axes[0]
    answered, level = axes.lines
    assert answered.get_ydata()[-1] == evaluation.metrics.accuracy.value
    assert level.get_ydata()[0] == evaluation.metrics.accuracy.value
    assert [text.get_text() for text in axes.get_legend().texts] == ["all answered"]


def test_many_classes_and_a_model_without_likelihoods_have_a_report(
    tmp_path: Path,
) -> None:
    many = _evaluation(120, tuple(f"class {c}" for c in range(60)))
    bare = replace(many, scores=None, curve=(), reached=None, origin=(), facts={})
    plain, page, _ = _write(bare, tmp_path)
    assert plain["scoring"] is None
    assert len(page.images) == 3
    assert "draws" not in page.text


def test_one_text_and_an_impossible_class_have_a_report(tmp_path: Path) -> None:
    one = Evaluation(
        labels=("a", "b"),
        texts=("\ud800 lone",),
        codes=torch.tensor([1]),
        log_posterior=torch.tensor([[0.0, -math.inf]]),
        prior=torch.tensor([1.0, 0.0]),
    )
    plain, page, _ = _write(one, tmp_path)
    assert plain["log_loss"] is None
    assert "infinite" in page.text


def test_what_cannot_be_reported_is_refused(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="texts has 59 rows for 60"):
        replace(evaluation, texts=evaluation.texts[1:])
    with pytest.raises(DataError, match="no text"):
        replace(evaluation, codes=evaluation.codes[:0])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="file"):
        write(evaluation, tmp_path / "file")


# ---- the curve over draws --------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (2, (2,)),
        (3, (2, 3)),
        (8, (2, 4, 8)),
        (9, (2, 4, 8, 9)),
        (64, (2, 4, 8, 16, 32, 64)),
    ],
)
def test_draws_double_up_to_the_most(most: int, expected: tuple[int, ...]) -> None:
    assert draws_for(most) == expected


def test_the_curve_counts_right_and_equal_classes() -> None:
    codes = torch.tensor([0, 0, 1, 1])
    after = {4: torch.tensor([0, 0, 1, 0]), 2: torch.tensor([0, 1, 1, 0])}
    logs = {draws: torch.eye(2)[guess].log() for draws, guess in after.items()}
    two, four = draws_curve(logs, codes)
    assert (two.draws, four.draws) == (2, 4)
    assert (two.rows, four.rows) == (4, 4)
    assert two.accuracy == wilson(2, 4)
    assert four.accuracy == wilson(3, 4)
    assert (two.agreement, four.agreement) == (0.75, 1.0)
    with pytest.raises(DataError, match="same texts"):
        draws_curve({2: logs[2][:3]}, codes)
    with pytest.raises(DataError, match="no number of draws"):
        draws_curve({}, codes)
