"""Sphinx; build with `sphinx-build -W docs docs/_build`."""

from importlib.metadata import version as installed_version

project = "skpar"
author = "the skpar developers"
copyright = "2026, the skpar developers"
version = release = installed_version("skpar")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "auto_examples/**.py", "auto_examples/**.ipynb"]
default_role = "literal"
# Methods inherited from scikit-learn refer to its user guide and glossary.
suppress_warnings = ["ref.ref", "ref.term"]

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # quickstart.py is a program: its sys.exit would end the build, silently
    "filename_pattern": "/plot_",
    "download_all_examples": False,
    "show_memory": False,
    "abort_on_example_error": True,
}

html_theme = "alabaster"
html_theme_options = {"description": project + " " + release, "page_width": "1080px"}
html_show_sourcelink = False
