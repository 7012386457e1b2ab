"""Sphinx configuration of the reviewers' site: system fonts, maths as MathML, no request to any other host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util import logging

from crmresearch.run import spare_grammars

spare_grammars()
project = "crmresearch"
html_title = "crmresearch"
language = "en"
extensions = ["myst_nb"]
exclude_patterns = ["alt.json"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_output_stderr = "show"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]
smartquotes = False

html_theme = "pydata_sphinx_theme"
html_static_path = ["static"]
html_css_files = ["crmresearch.css"]
html_js_files = [("crmresearch.js", {"defer": "defer"})]
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_last_updated_fmt = None
html_math_renderer = "mathml"
html_permalinks_icon = "#"
html_sidebars: dict[str, list[str]] = {"index": [], "how-to-read": [], "about-this-run": [], "studies": []}
html_theme_options = {
    "logo": {"text": "crmresearch"},
    "navbar_align": "left",
    "navbar_center": ["navbar-nav"],
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "article_header_start": [],
    "show_prev_next": False,
    "footer_start": [],
    "footer_end": [],
    "show_toc_level": 2,
    "search_bar_text": "Search the studies",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def _mathml(latex: str, display: str) -> str:
    from latex2mathml.converter import convert

    maths = convert(re.sub(r"\\arg(?![a-z])", r"\\operatorname{arg}", latex), display=display)
    if "\\" in maths:
        logging.getLogger(__name__).warning("maths that is not understood: %s", latex)
    return maths


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="maths" tabindex="0">{_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _annotate(app: Any, doctree: nodes.document) -> None:
    """Give cells their anchors and pictures their alt text, which myst-nb drops."""
    alts = json.loads((Path(app.srcdir) / "alt.json").read_text("utf-8"))
    for node in doctree.findall(nodes.container):
        cell = node.get("cell_metadata", {}).get("crm_id") if node.get("nb_element") == "cell_code" else None
        if cell:
            node["ids"].append(f"cell-{cell}")
    for node in doctree.findall(nodes.image):
        alt = alts.get(Path(node["uri"]).stem)
        if alt:
            node["alt"] = alt


def setup(app: Any) -> dict[str, bool]:
    """Register the maths renderer and the annotations."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("doctree-read", _annotate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
