"""Every setting is documented as it is."""

from tests.docs.settings_page import PAGE, page


def test_the_page_of_settings_is_that_of_the_table():
    assert PAGE.read_text() == page(), "run: python -m tests.docs.settings_page"
