import argparse
from collections.abc import Callable
from typing import Any

import pytest

from merchantguard.core import arguments


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (arguments.positive_count, "12", 12),
        (arguments.count, "0", 0),
        (arguments.port, "65535", 65535),
        (arguments.whole_number(0, 5), "5", 5),
        (arguments.positive_counts, "4,1,4", [1, 4]),
        (arguments.positive_number, "1e-3", 0.001),
        (arguments.share, "1", 1.0),
        (arguments.open_share, "0.05", 0.05),
    ],
)
def test_what_is_in_range_is_parsed(kind: Callable[[str], Any], text: str, value: Any) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (arguments.positive_count, "0", "'0' is not a positive whole number"),
        (arguments.positive_count, "many", "'many' is not a positive whole number"),
        (arguments.positive_counts, "1,0", "'0' is not a positive whole number"),
        (arguments.positive_counts, "1,", "'' is not a positive whole number"),
        (arguments.count, "-1", "'-1' is not a whole number, 0 or more"),
        (arguments.whole_number(2), "1.5", "'1.5' is not a whole number, 2 or more"),
        (arguments.port, "70000", "'70000' is not a whole number from 0 to 65,535"),
        (arguments.positive_number, "nan", "'nan' is not a positive number"),
        (arguments.positive_number, "inf", "'inf' is not a positive number"),
        (arguments.share, "1.01", "'1.01' is not a number from 0 to 1"),
        (arguments.open_share, "x", "'x' is not a number between 0 and 1"),
        (arguments.open_share, "1", "'1' is not a number between 0 and 1"),
    ],
)
def test_the_error_says_what_the_option_takes(
    kind: Callable[[str], Any], text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--option", type=kind)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--option={text}"])
    assert f"argument --option: {message}\n" in capsys.readouterr().err
