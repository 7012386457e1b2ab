"""Sphinx configuration of the reviewers' site: system fonts, maths as MathML, no request to any other host."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.locale import _ as sphinx_words
from sphinx.util import logging

from crmresearch import words
from crmresearch.run import spare_grammars
from crmresearch.run.site.search import Claims, Search

say = words.of("site.conf")
spare_grammars()
project = "crmresearch"
html_title = "crmresearch"
language = say("language")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["downloads"]
nb_execution_mode = "off"
add_module_names = toc_object_entries = False
autodoc_typehints = "none"  # they stand in the docstrings, in words
autodoc_use_type_comments = False
napoleon_use_rtype = False
nb_merge_streams = True
nb_output_stderr = "show"
nb_code_prompt_show, nb_code_prompt_hide = say("code_show"), say("code_hide")
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header", "ref.python"]
smartquotes = False

html_theme = "pydata_sphinx_theme"
html_static_path = ["static"]
html_css_files = ["crmresearch.css"]
html_js_files = [("crmresearch.js", {"defer": "defer"})]
html_use_index = False
templates_path = ["templates"]
_others = words.languages()[1:]
html_context = {"default_mode": "auto", "languages": {code: say.names("languages")[code] for code in _others}}
html_show_search_summary = False  # it fetches pages, which a browser refuses where the site is opened from a folder
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_last_updated_fmt = None
html_math_renderer = "mathml"
html_permalinks_icon = "#"
_alone = ("index", "ledger", "how-to-read", "methods", "about-this-run", "studies", "downloads")
html_sidebars: dict[str, list[str]] = {page: [] for page in _alone}
html_theme_options = {
    "logo": {"text": "crmresearch"},
    "navbar_align": "left",
    "navbar_center": ["navbar-nav"],
    "navbar_end": ["languages", "theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 6 if words.language() == "en" else 8,  # the theme says More, in English
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "article_header_start": [],
    "show_prev_next": False,
    "footer_start": [],
    "footer_end": [],
    "show_toc_level": 2,
    "search_bar_text": say("search"),
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


# what a page must not do, whoever wrote the text: fetch (but for our pictures of claims), embed, run, or send anything
_ACTIVE = re.compile(
    r"""<\s*/?\s*(?:script|iframe|object|embed|link|base|meta|form)\b[^>]*>|<\s*(?:img|video|audio|source|image)\b"""
    r"""(?![^>]*\b(?:src|href)\s*=\s*["']?(?:data:|claims/\w+\.svg|(?:\.\./)*downloads/[\w/-]+\.png["']))[^>]*>"""
    r"""|url\([^)]*\)""",
    re.IGNORECASE,
)


def _guard(app: Any, doctree: nodes.document) -> None:
    """Leave out pictures and files from elsewhere: a page shows what its notebook drew, and asks no other host."""
    for node in list(doctree.findall(nodes.image)):
        node.replace_self(nodes.Text(node.get("alt", "")))
    for node in list(doctree.findall(addnodes.download_reference)):
        node.replace_self(nodes.Text(node.astext()))
    for node in list(doctree.findall(nodes.raw)):
        if node.get("format") != "html":
            node.parent.remove(node)
        else:  # cells apart: the search index drops tags, and would make one word of a row
            shown = _ACTIVE.sub("", node.astext()).replace("</td><", "</td> <").replace("</th><", "</th> <")
            node.replace_self(nodes.raw("", shown, format="html"))


def _close(app: Any) -> None:
    """Let no page include a file or bring markup in another language."""
    app.env.settings |= {"file_insertion_enabled": False, "raw_enabled": False}


def _annotate(app: Any, doctree: nodes.document) -> None:
    """Give cells their anchors."""
    for node in doctree.findall(nodes.container):
        cell = node.get("cell_metadata", {}).get("crm_id") if node.get("nb_element") == "cell_code" else None
        if cell:
            node["ids"].append(f"cell-{cell}")


def _named(_app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Let folded code be called by the words that stand there, and the theme speak where it has no words."""
    context["_"] = lambda text: words.local(text) if words.local(text) != text else sphinx_words(text)
    context["body"] = context.get("body", "").replace(' aria-label="Toggle hidden content"', "")


def setup(app: Any) -> dict[str, bool]:
    """Register the maths renderer and the annotations."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.add_search_language(Search)
    app.add_domain(Claims)
    app.connect("builder-inited", _close)
    app.connect("doctree-read", _guard, priority=100)  # before Sphinx collects pictures and files
    app.connect("doctree-read", _annotate)
    app.connect("html-page-context", _named)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
