"""How the documentation is built: `make docs`."""

import importlib.metadata

project = "collider-anomalies"
author = "the collider-anomalies authors"
copyright = "2026, the collider-anomalies authors"
release = importlib.metadata.version("collider-anomalies")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Fields of named tuples and dataclasses are members already: their descriptions belong to the class.
napoleon_use_ivar = True
# Imported by the modules that are documented, and slow to load or made in another language.
autodoc_mock_imports = ["ROOT", "pythia8", "XRootD", "dask_gateway", "dask_jobqueue"]
html_theme = "furo"
html_title = "collider-anomalies"
# Names of attributes that several classes have, such as `rows`, are no references.
suppress_warnings = ["ref.python"]
