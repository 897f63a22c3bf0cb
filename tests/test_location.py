"""Where something was saved."""

from pathlib import Path

import pytest

from toolkit.location import is_url, located


@pytest.mark.parametrize("url", ["gs://bucket//a", "s3://bucket", "abfs+x://a", "file:///a"])
def test_a_url_stays_as_it_is(url: str) -> None:
    """Not a slash of it is lost."""
    assert is_url(url)
    assert located(url) == url


@pytest.mark.parametrize("path", ["a/b", "C://a", "/a:b//c", "://a"])
def test_a_path_becomes_absolute(path: str) -> None:
    """Also one that looks a little like a URL."""
    assert not is_url(path)
    assert located(path) == Path.cwd() / path
    assert located(Path(path)) == Path.cwd() / path
