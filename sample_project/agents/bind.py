"""Write book.txt out of the answers that this task needs."""

import json
import os
from pathlib import Path


def main() -> None:
    """Bind it, in the order of the chapters' names."""
    needs = json.loads(Path(os.environ["FARM_NEEDS"]).read_text())
    answers = {name: json.loads(Path(path).read_text()) for name, path in needs.items()}
    pages = [f"{name}\n{answers[name]['text']}\n" for name in sorted(answers)]
    book = Path("book.txt")
    aside = book.with_name(".book.txt.aside")
    aside.write_text("\n".join(pages))
    aside.rename(book)  # whole or not at all
    print(f"{len(pages)} pages in {book}")


if __name__ == "__main__":
    main()
