"""A farm whose prompts go to the provider of the tests."""

import json
import secrets
from pathlib import Path
from typing import Any

import msgspec

from farm.ledger import Ended, Line, peek
from farm.project import Project
from tests.driver import Farm
from tests.provider.server import Provider


class Prompts:
    """One farm and one provider, and the keys that both know."""

    def __init__(self, farm: Farm, provider: Provider) -> None:
        self.farm = farm
        self.provider = provider
        self.secrets: list[str] = []
        farm.environ |= {"ANTHROPIC_BASE_URL": provider.url}

    def agent(self, name: str = "ask", kind: str = "messages", **told: Any) -> None:
        """One more table in farm.toml."""
        told = {"kind": kind, "model": "m"} | told
        lines = [f"{key} = {json.dumps(value)}" for key, value in told.items()]
        with (self.farm.root / "farm.toml").open("a") as settings:
            settings.write("\n".join([f"[agents.{name}]", *lines, ""]))

    def key(self, number: int = 1, pool: str | None = None, **limits: Any) -> str:
        """A key that the provider takes and new workers are given; its label."""
        secret = secrets.token_hex(20)
        self.secrets.append(secret)
        self.provider.add_key(f"anthropic-{number}", secret, pool=pool, **limits)
        self.farm.environ[f"ANTHROPIC_API_KEY_{number}"] = secret
        return f"anthropic-{number}"

    def agent_with_key(self, **told: Any) -> str:
        """The usual agent, and the only key it has; its label."""
        self.agent(**told)
        return self.key()

    def drop(self, count: int, **task: Any) -> list[str]:
        """So many prompts, each with words of its own."""
        return [
            self.farm.drop(f"p{n:02}", prompt=f"prompt {n:02}", **task)
            for n in range(count)
        ]

    def asked(self) -> list[str]:
        """Every prompt that came to the provider, in order."""
        return [call.body["messages"][-1]["content"] for call in self.provider.calls]

    def lines(self, task_id: str) -> list[Line]:
        """What the ledger of a task that has not ended says."""
        return peek(Project.open(self.farm.root).ledger_path(task_id))

    def endings(self, task_id: str) -> list[Ended]:
        """How the attempts of such a task ended."""
        return [line for line in self.lines(task_id) if isinstance(line, Ended)]

    def scopes(self) -> list[dict[str, Any]]:
        """What is known of keys, pools and endpoints."""
        return [
            msgspec.json.decode(path.read_bytes())
            for path in (self.farm.state / "credentials").glob("*.json")
        ]

    def rests(self, provider: str = "anthropic") -> set[tuple[str, str]]:
        """How the keys and pools of a provider rest, and why; endpoints have none."""
        return {
            (rest["level"], rest["reason"])
            for scope in self.scopes()
            if _is_of(scope["id"], provider)
            for rest in scope.get("rests", {}).values()
        }

    def running(self) -> list[str]:
        """The tasks that run, as `farm status` tells it."""
        said = self.farm.farm("status", "--json").stdout
        return sorted(run["id"] for run in json.loads(said)["running"])


def _is_of(scope: str, provider: str) -> bool:
    own = scope.partition(".")[0]
    return own == provider or scope.startswith((f"{provider}-", f"pool-{provider}-"))


def told(path: Path) -> list[str]:
    """The lines of a file that a task wrote."""
    return path.read_text().split() if path.exists() else []
