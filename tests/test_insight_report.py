"""The report of a training: one page with everything in it, for a phone too, and it is silent."""

import re

import numpy as np
import pytest
import torch

from allaprima.core.events import Advanced, Started, Wrote, ignore
from allaprima.insight import report
from allaprima.insight.page import Heading, Row, Table, Terms, page
from allaprima.insight.report import write_report
from allaprima.train.settings import Settings
from allaprima.train.trainer import Trainer
from baseline_cases import bundled
from conftest import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")

STYLE = ROOT / "examples" / "styles" / "starry_night.jpg"


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny_model):
    """The report of a training of three steps, as (HTML, events)."""
    trainer, events = Trainer(STYLE, Settings(steps=3, size=64, style_size=64, warmup=2), "cpu"), []
    for _ in range(3):
        trainer.step()
    path = tmp_path_factory.mktemp("report") / "starry.html"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report, "ITERATIONS", 3)
        assert write_report(path, trainer, STYLE, tiny_model, 9.4, events.append) == path
    return path.read_text(), events


def test_the_report_is_one_page_with_everything_in_it(written):
    html, _ = written
    assert html.count("data:image/jpeg;base64,") == 1 + 2 * 3 + 2 * 4 and html.count("data:image/svg+xml;base64,") == 1
    for other in ('src="http', "<link", "<script", "url("):
        assert other not in html
    assert "3 steps of 1 photo at 64 px" in html and "it took 9 s" in html
    for part in ("Against the optimizer", "astronaut.jpg", "photos a second", "learning_rate", "lambda) of relu4_3"):
        assert part in html


def test_terms_are_explained_before_they_are_used(written):
    html, _ = written
    explained = [html.index(f"<dt>{term}</dt>") for term in ("J", "Stylization", "Equivalent iteration")]
    assert max(explained) < html.index("<table>") and "the most allowed was 0.95" in html


def test_the_report_reports_by_events(written):
    _, events = written
    assert isinstance(events[0], Started) and events[0].total == 8
    assert [event.done for event in events if isinstance(event, Advanced)] == list(range(1, 9))
    assert isinstance(events[-1], Wrote) and events[-1].path.name == "starry.html"


def test_a_long_and_narrow_photo_is_compared_too(tiny_model, monkeypatch):
    """Scaled to the long side of the others, it would have fewer rows than the loss network needs."""
    trainer = Trainer(STYLE, Settings(steps=3, size=64, style_size=64), "cpu")
    trainer.photos.held_out, trainer.photos.names = [torch.zeros(3, 20, 2000, dtype=torch.uint8)], ["narrow.jpg"]
    monkeypatch.setattr(report, "ITERATIONS", 1)
    ((_, compared),) = report._compare(trainer, tiny_model, ignore)
    assert compared.photo.shape == (16, 1600, 3)


def test_names_are_text_in_the_page():
    """What comes from file names and settings is escaped, wherever it stands."""
    name = "<b>&\"'"
    parts = [
        name,
        Heading(name),
        Terms({name: name}),
        Table([name], [[name], [None]]),
        Row([(bundled("chelsea.jpg"), name)]),
    ]
    html = page(name, parts)
    assert "<b>" not in html and html.count("&lt;b&gt;&amp;&#34;&#39;") == 10


def test_tables_and_wide_pictures_scroll_in_a_box_of_their_own():
    wide, narrow = (np.zeros((90, width, 3), np.uint8) for width in (900, 300))
    html = page("title", [Table(["a"], [[0.123456]]), Row([(wide, "wide")]), Row([(narrow, "one"), (narrow, "two")])])
    assert re.findall(r'<div class="(.*?)">', html) == ["scroll", "scroll wide", "row"]
    assert re.search(r'<div class="scroll"><table>', html) and '<td class="number">0.1235</td>' in html
    assert 'name="viewport" content="width=device-width' in html
