"""The page of settings, made from the table of settings: python -m tests.docs.settings_page writes it."""

from pathlib import Path

from bridge.settings.table import SETTINGS, TABLES, Setting

PAGE = Path(__file__).parent.parent.parent / "docs" / "settings.md"

BEGINNING = """# Settings

A setting has one name everywhere: `history_count` is the key in the TOML file (in the table given here),
`--history-count` the flag, and `THEBLOCK_BRIDGE_HISTORY_COUNT` the environment variable. Flags win over the
environment, the environment over the file (`--config FILE`), and the file over the defaults. `theblock-bridge
check-config` names every error at once; `theblock-bridge print-config` shows every value and where it came from.
A setting that can be `off` has no value then.
"""


def row(setting: Setting) -> str:
    """Return the row of a setting."""
    allowed = setting.allowed.replace("|", "\\|")
    default = setting.show(setting.default)
    return f"| `{setting.name}` | {setting.doc} | {allowed} | {f'`{default}`' if default else 'none'} |"


def page() -> str:
    """Return the page."""
    parts = [BEGINNING]
    for table in TABLES.values():
        rows = [row(setting) for setting in SETTINGS.values() if setting.table == table]
        head = [f"## `[{table}]`\n", "| setting | what it is | allowed | default |", "|---|---|---|---|"]
        parts.append("\n".join([*head, *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
