"""Run one block of the README on the real data, behind the blocks that it builds on.

    python tests/reproduce.py "the paper"    # "first=3" after the name replaces "first = 0"

Blocks begin with "# Block: name" or "# Block: name, after another". Pictures and MNIST (data/) lie
in the folder that it is started in. Without a name it lists the blocks.
"""

import re
import runpy
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def named_blocks(readme):
    """The README's Python blocks that have a name, as ``{name: code}``."""
    found = re.findall(
        r"^```python\n(# Block: ([^,\n]+).*?)^```$", readme, re.MULTILINE | re.DOTALL
    )
    return {name: code for code, name in found}


def whole(name, blocks):
    """The code of a block behind the code of the blocks that it builds on."""
    base = re.match(r"# Block: .*, after (.*)\n", blocks[name])
    return (whole(base[1], blocks) if base else "") + blocks[name]


def main(arguments):
    blocks = named_blocks((ROOT / "README.md").read_text())
    if not arguments or arguments[0] not in blocks:
        sys.exit("one of: " + ", ".join(blocks))
    code = whole(arguments[0], blocks)
    for assignment in arguments[1:]:
        variable, value = assignment.split("=")
        code = re.sub(rf"^{variable} = .*$", f"{variable} = {value}", code, flags=re.MULTILINE)
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        block = Path(folder, "block.py")
        block.write_text(code)
        runpy.run_path(str(block), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
