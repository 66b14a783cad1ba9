"""One scene and one browser for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.scene import scene
from tests.browser.window import Window
from tests.browser.window import window as opened
from tests.needs import need


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with scene() as pages:
        yield pages


@pytest.fixture(scope="session")
def window() -> Iterator[Window]:
    with opened(need("chromium", "chromium-browser")) as made:
        yield made


@pytest.fixture
def page(window: Window, url: str) -> Window:
    window.start(url)
    return window
