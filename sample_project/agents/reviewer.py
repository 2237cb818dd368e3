"""An agent's command line, as small as can be: a prompt on stdin, an answer on stdout.

A real one would ask a model with the key that farm gives it; this one reads what its
task needs, counts words, and says whether it was given a key (never the key).
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Answer the prompt."""
    prompt = sys.stdin.read().strip()
    needs = json.loads(Path(os.environ["FARM_NEEDS"]).read_text())
    texts = [json.loads(Path(path).read_text())["text"] for path in needs.values()]
    words = sum(len(text.split()) for text in texts)
    key = "a key" if os.environ.get("ANTHROPIC_API_KEY") else "no key"
    print(f"{prompt} {len(texts)} chapters, {words} words; I was given {key}.")


if __name__ == "__main__":
    main()
