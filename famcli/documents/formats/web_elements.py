"""Elements of HTML: in the line, headings, the main part, and those that are left out by name, role or class."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


INLINE = _words(
    """
    a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rb rp rt ruby s samp small
    span strike strong sub sup time tt u var wbr
    """
)
SKIPPED = _words(
    """
    script style noscript template svg math canvas iframe object embed applet audio video map select button textarea
    datalist nav menu aside footer dialog rp
    """
)
VOID = _words("area base br col embed hr img input link meta param source track wbr")
SKIPPED_ROLES = _words("navigation banner contentinfo complementary search menu menubar toolbar dialog alert")
SKIPPED_CLASSES = _words(
    """
    nav navbar navigation navbox menu sidebar breadcrumb breadcrumbs footer site-footer site-header cookie cookies
    cookie-banner pagination skip-link skip-to-content headerlink mw-editsection noprint sphinxsidebar related
    toctree-wrapper share social comments-link sr-only visually-hidden screen-reader-text
    """
)
HEADING = re.compile(r"h([1-6])$")
MAIN = re.compile(rb"<main[\s>]|role\s*=\s*[\"']?main\b", re.I)
ARTICLE = re.compile(rb"<article[\s>]", re.I)
