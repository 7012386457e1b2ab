"""The page of methods and terms, and the way to it from the columns of tables."""

from __future__ import annotations

import re
from html import escape

from crmresearch import words
from crmresearch.run.site.chips import raw

say = words.of("site.methods")
SOURCES = {
    "Kaplan-Meier with late entry": "Kaplan and Meier (1958), JASA 53, 457-481",
    "Aalen-Johansen": "Aalen and Johansen (1978), Scandinavian Journal of Statistics 5, 141-150",
    "Cox regression": "Cox (1972), JRSS B 34, 187-220; Efron (1977), JASA 72, 557-565",
    "Fine-Gray": "Fine and Gray (1999), JASA 94, 496-509; Geskus (2011), Biometrics 67, 39-49",
    "Complementary log-log": "Prentice and Gloeckler (1978), Biometrics 34, 57-67",
    "Restricted mean": "Royston and Parmar (2013), BMC Medical Research Methodology 13, 152",
    "Brier score and concordance": "Graf et al. (1999), Statistics in Medicine 18, 2529-2545; "
    "Uno et al. (2011), Statistics in Medicine 30, 1105-1117",
    "Decision curve": "Vickers and Elkin (2006), Medical Decision Making 26, 565-574",
    "Fieller": "Fieller (1954), JRSS B 16, 175-185",
    "Wilson": "Wilson (1927), JASA 22, 209-212",
    "Studentised bootstrap": "Davison and Hinkley (1997), Bootstrap Methods and their Application",
    "Holm": "Holm (1979), Scandinavian Journal of Statistics 6, 65-70",
    "Benjamini-Hochberg": "Benjamini and Hochberg (1995), JRSS B 57, 289-300",
    "HC3": "MacKinnon and White (1985), Journal of Econometrics 29, 305-325",
    "Pareto/NBD and BG/NBD": "Schmittlein, Morrison and Colombo (1987), Management Science 33, 1-24; "
    "Fader, Hardie and Lee (2005), Marketing Science 24, 275-284",
    "Gamma-gamma": "Fader, Hardie and Lee (2005), Journal of Marketing Research 42, 415-430",
    "Augmented inverse probability weighting": "Robins, Rotnitzky and Zhao (1994), JASA 89, 846-866",
    "Uplift and Qini": "Radcliffe (2007), Direct Marketing Analytics Journal 1, 14-21",
    "E-value": "VanderWeele and Ding (2017), Annals of Internal Medicine 167, 268-274",
    "Robustness value": "Cinelli and Hazlett (2020), JRSS B 82, 39-67",
    "Heterotrait-monotrait ratio": "Henseler, Ringle and Sarstedt (2015), "
    "Journal of the Academy of Marketing Science 43, 115-135",
    "Partial least squares paths": "Tenenhaus et al. (2005), Computational Statistics and Data Analysis 48, "
    "159-205; Dijkstra and Henseler (2015), MIS Quarterly 39, 297-316",
    "Polychoric correlation": "Olsson (1979), Psychometrika 44, 443-460",
    "Random-intercept cross-lagged model": "Hamaker, Kuiper and Grasman (2015), Psychological Methods 20, 102-116",
}


def page() -> str:
    """Write the page: each method with its use and its source, each term with its meaning."""
    rows = ((words.local(name), use, SOURCES[name]) for name, use in say.names("uses").items())
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    heads = "".join(f'<th scope="col">{head}</th>' for head in say.names("heads").values())
    table = f'<table class="crm-plain"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    terms = "".join(
        f'<dt id="{_anchor(term)}">{escape(words.local(term))}</dt><dd>{escape(meaning)}</dd>'
        for term, meaning in say.names("meanings").items()
    )
    return "\n".join(
        [say("title"), say("methods"), raw(table), say("terms"), raw(f'<dl class="crm-terms">{terms}</dl>')]
    )


def _anchor(term: str) -> str:
    return f"term-{term.replace(' ', '-')}"


def explained(table: str, up: str) -> str:
    """Let each column's name that is a term lead to what it means; ``up`` leads to the site's first page."""
    terms = {words.local(name): term for term in say.names("meanings") for name in (term, term.replace(" ", "_"))}

    def link(head: re.Match[str]) -> str:
        term = terms.get(head[2])
        return f'{head[1]}<a href="{up}methods.html#{_anchor(term)}">{head[2]}</a>' if term else head[0]

    return re.sub(r'(<th [^>]*scope="col"[^>]*>)([^<[]*[^<[ ])', link, table)
