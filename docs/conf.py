"""How Sphinx builds the documentation: `make docs`."""

import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

from ssm.support import versions  # noqa: E402 # found by the line above

project = "ssm"
author = "The ssm developers"
project_copyright = "the ssm developers, Apache-2.0"
release = versions.own()
version = release.split(".dev")[0]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "ssm_docs",
]
exclude_patterns = ["_ext", "_static"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline", "substitution"]
# The explorer is a file of its own, where `make explorer` has built it.
_explorer = ROOT / "ssm" / "explorer.html"
html_extra_path = [str(_explorer)] if _explorer.is_file() else []
myst_substitutions = {
    "explorer": '<a href="explorer.html">Open the explorer.</a>'
    if _explorer.is_file()
    else "It is not part of this build of the site, which `make explorer` before `make docs` changes."
}
myst_heading_anchors = 3
bibtex_bibfiles = ["bibliography.bib"]
bibtex_reference_style = "author_year"

# An executed notebook is kept by its text and by that of the library.
_library = hashlib.sha256()
for _path in sorted((ROOT / "ssm").rglob("*.py")):
    _library.update(_path.read_bytes())
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "docs" / "executed" / _library.hexdigest()[:16])
nb_execution_timeout = 120
nb_execution_show_tb = True  # with a warning, by which a strict build fails

# Docstrings name what they speak of in single backticks: a link where there is a page, and else code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
nitpicky = True
nitpick_ignore_regex = [
    (r"py:obj", r".*"),  # code in single backticks that has no page
    (r"py:(class|data|func)", r"(?!ssm\.).*"),  # types of other packages, and of shapes
    (r"py:class", r"ssm\.(?!Config).*"),  # types in signatures that live in a room
]

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "ssm"
html_static_path = ["_static"]
html_css_files = ["ssm.css"]
html_js_files = ["filter.js"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "model": [], "explore": []}  # pages with nothing below them
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "generated/reference/config": []},
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_align": "left",
}
