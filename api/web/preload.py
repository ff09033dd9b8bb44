"""What every page of the console draws with, named to the browser before it knows that it needs it.

Streamlit's page loads the script of an element when the first such element arrives, then what that script imports,
then what those import: several answers one after another, on every first look. Named in the page's head they come
while the connection is made.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

DRAWN_WITH = ("Html", "Button", "ButtonGroup", "PageLink", "Selectbox", "TextInput", "Metric")
"""Names of the scripts of elements that stand on nearly every page; all small."""
FONT = "app/static/inter-latin-wght-normal.woff2"
MOST = 80

_IMPORT = re.compile(r"""(?:from|import)\s*["']\./([\w.\-~$]+\.js)["']""")
_NAMED = re.compile(r"static/js/([\w.\-~$]+\.js)")
_OTHER_FONT = re.compile(r"""<link\s+rel="preload"\s+href="[^"]*SourceSans[^"]*"[^>]*/>\s*""")


def folder() -> Path | None:
    """Where the installed Streamlit keeps its page."""
    spec = importlib.util.find_spec("streamlit")
    return Path(spec.origin).parent / "static" if spec and spec.origin else None


@cache
def scripts(static: Path, index: str) -> tuple[str, ...]:
    """File names of the elements' scripts and of all they import, without those the page names itself.

    A name that this Streamlit does not have is left out: it is loaded when it is needed, as before.
    """
    js = static / "static" / "js"
    named = set(_NAMED.findall(index))
    wanted: list[str] = []
    ahead = [path.name for name in DRAWN_WITH for path in js.glob(f"{name}.*.js")]
    while ahead and len(wanted) < MOST:
        name = ahead.pop(0)
        if name in named or not (js / name).is_file():
            continue
        named.add(name)
        wanted.append(name)
        ahead += _IMPORT.findall((js / name).read_text(encoding="utf-8"))
    return tuple(wanted)


def add(page: str) -> str:
    """The page with its scripts and its font named; Streamlit's own font, which is not used here, is not asked for."""
    static = folder()
    if static is None:
        return page
    links = [f'<link rel="preload" href="./{FONT}" as="font" type="font/woff2" crossorigin>']
    links += [f'<link rel="modulepreload" crossorigin href="./static/js/{name}">' for name in scripts(static, page)]
    return _OTHER_FONT.sub("", page, count=1).replace("</head>", "\n    ".join(["", *links]) + "\n  </head>", 1)
