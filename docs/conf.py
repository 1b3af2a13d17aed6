"""Settings of the docs site: ``sphinx-build -c docs . site``, from the root of the repository.

The root is the source folder, so that a link between pages and READMEs works on the site exactly if it works in the
repository. No page requests anything from another host.
"""

import re
from typing import Any, get_type_hints

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import stringify_annotation

import anomalib_plus

project = "anomalib-plus"
author = "the anomalib-plus maintainers"
release = anomalib_plus.__version__
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "src/anomalib_plus/models/*/README.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
nb_execution_mode = "off"  # a test runs the notebooks; the site shows the outputs that they were saved with

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = f"anomalib-plus {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}  # the root of the site
templates_path = ["_templates"]
html_copy_source = False


class Chain(SphinxDirective):
    """A Mermaid flowchart of one chain, as a list that looks like boxes: Mermaid itself is a script of 3 MB."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the boxes in order; only lines ``a["label"] --> b["label"]`` are known."""
        edges = [line.strip() for line in self.content[1:]]
        boxes: dict[str, str] = {}
        last = None
        for edge in edges:
            found = re.fullmatch(r'(\w+)(?:\["(.*?)"\])? --> (\w+)\["(.*?)"\]', edge)
            if not found or (last and found[1] != last):
                raise self.error(f"the site draws Mermaid flowcharts of one chain only, not {edge!r}: see docs/conf.py")
            if last is None:
                boxes[found[1]] = found[2]
            boxes[last := found[3]] = found[4]
        items = [nodes.list_item("", nodes.paragraph("", label)) for label in boxes.values()]
        return [nodes.enumerated_list("", *items, classes=["chain"])]


def skip_hooks(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:  # noqa: ARG001
    """Leave out hooks, which Lightning calls and no user."""
    return True if name.startswith("on_") else None


def constructor_types(app: Sphinx, what: str, name: str, member: Any, *_: Any) -> None:
    """Take types of arguments from the constructor; Sphinx 9 prefers those of class attributes with the same names."""
    if what == "class":
        types = app.env.current_document.autodoc_annotations.get(name, {})
        hints = get_type_hints(member.__init__)
        types.update({argument: stringify_annotation(hints[argument], "smart") for argument in types.keys() & hints})


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive for Mermaid, and the choice of members for the API pages."""
    app.add_directive("mermaid", Chain)
    app.connect("autodoc-skip-member", skip_hooks)
    app.connect("autodoc-process-signature", constructor_types)
    return {"parallel_read_safe": True}
