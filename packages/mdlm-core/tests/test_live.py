"""The live view: drawn to a terminal, silent elsewhere."""

import io

import torch

from mdlm_core.samplers.live import LiveView, printable


class Letters:
    mask_id = 99

    def decode(self, ids, *, mask="▒"):
        return "".join(mask if i == 99 else chr(97 + i) for i in ids)


CANVAS = torch.tensor([[0, 99, 2, 99], [99, 1, 2, 3], [3, 2, 1, 0]])


def test_silent_where_there_is_no_terminal():
    out = io.StringIO()
    with LiveView(Letters(), file=out) as view:
        assert not view.active
        view(1, CANVAS)
    assert out.getvalue() == ""


def test_draws_the_canvas_when_forced():
    out = io.StringIO()
    with LiveView(Letters(), file=out, force=True) as view:
        view(1, CANVAS)
        view(2, torch.where(CANVAS == 99, 4, CANVAS))
    drawn = out.getvalue()
    assert "▒" in drawn
    assert "aece" in drawn
    assert "\x1b[" in drawn  # it was redrawn in place


def test_says_how_far_it_is_and_how_many_rows_it_hides():
    view = LiveView(Letters(), rows=2, file=io.StringIO())
    assert view.render(7, CANVAS).plain.splitlines() == [
        "evaluation 7, 3 masked",
        "a▒c▒",
        "▒bcd",
        "(1 more rows)",
    ]


def test_the_terminal_is_left_in_order_after_an_error():
    out = io.StringIO()
    try:
        with LiveView(Letters(), file=out, force=True) as view:
            view(1, CANVAS)
            raise RuntimeError
    except RuntimeError:
        pass
    assert out.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor is shown


def test_control_characters_do_not_reach_the_terminal():
    assert printable("a\tb\n\x1b[2Jc\x07\x9b") == "a\tb\n\ufffd[2Jc\ufffd\ufffd"
