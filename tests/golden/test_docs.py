"""The pages say what the program says: commands, flags, JSON keys, versions and links."""

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import regraft
from regraft import events
from regraft.cli.main import COMMANDS
from regraft.spec import TRACKERS, FitSpec

ROOT = Path(__file__).resolve().parents[2]

PAGES = sorted(
    p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md"))
)


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def vocabulary():
    """Every word that has an entry of its own, as written and as a Python name."""
    words = set()
    for entry in re.findall(r"^- \*\*(.+?)\*\*(?: \((`\w+`)\))?", page("docs/vocabulary.md"), re.MULTILINE):
        words.update(re.split(r", | / ", entry[0].strip("`")))
        words.add(entry[1].strip("`"))
    for entry in re.findall(r"^- .*(?:\n  .*)*", page("docs/vocabulary.md"), re.MULTILINE):
        words.update(re.findall(r"`(\w+)`", entry))
    return words | {word.replace(" ", "_") for word in words}


def keys_of_fit():
    """The keys of the result that jobs/ship.py hands to `folder.finish`, and of the test part."""
    tree = ast.parse((ROOT / "src/regraft/jobs/ship.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        of_result = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "finish"
        of_test = isinstance(node, ast.FunctionDef) and node.name == "_test"
        if of_result or of_test:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Dict):
                    found |= {k.value for k in inner.keys if isinstance(k, ast.Constant)}
                elif isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store) and isinstance(inner.slice, ast.Constant):
                    found.add(inner.slice.value)
    return found


def test_the_keys_of_a_result_were_found():
    assert {
        "run",
        "model",
        "train",
        "estimate",
        "baseline",
        "test",
        "seconds",
        "peak_memory_mb",
        "left_out",
        "without_duplicates",
    } <= keys_of_fit()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    assert f"\n## regraft {name}\n" in page("docs/commands.md")
    assert f"regraft {name}" in page("README.md")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(FitSpec)])
def test_every_field_of_the_spec_is_in_the_vocabulary(name):
    assert name in vocabulary()


@pytest.mark.parametrize("key", sorted(keys_of_fit()))
def test_every_key_of_a_result_is_in_the_vocabulary(key):
    assert {key, f"{key}s", key.removesuffix("s")} & vocabulary()


@pytest.mark.parametrize("event", events.Event.__subclasses__(), ids=lambda e: e.__name__)
def test_every_event_is_documented_with_its_fields(event):
    (row,) = re.findall(rf"^\| `{event.__name__}` \|(.*)\|$", page("docs/seeing.md"), re.MULTILINE)
    assert {field.name for field in dataclasses.fields(event)} <= set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_is_documented_and_can_be_installed(name):
    assert f"\n| `{name}` |" in page("docs/seeing.md")
    assert re.search(rf"^{name} = \[", page("pyproject.toml"), re.MULTILINE) and f"regraft[{name}]" in page("README.md")


def test_no_word_has_two_entries():
    entries = re.findall(r"^- \*\*(.+?)\*\*", page("docs/vocabulary.md"), re.MULTILINE)
    assert len(entries) == len(set(entries))


def test_commands_and_flags_of_the_readme_exist():
    blocks = re.findall(r"^```\w*\n(.*?)^```", page("README.md"), re.MULTILINE | re.DOTALL)
    shown = [found for block in blocks for found in re.findall(r"^(?:\$ )?regraft (\w+)(.*)$", block, re.MULTILINE)]
    assert shown
    commands = page("docs/commands.md")
    for name, rest in shown:
        assert name in COMMANDS
        section = commands.split(f"\n## regraft {name}\n", 1)[1].split("\n## ", 1)[0]
        for flag in re.findall(r"--[a-z]+", rest.split("#", 1)[0]):
            assert flag in section, f"regraft {name} has no {flag}"


def test_names_of_the_readme_exist_in_python():
    for name in re.findall(r"\bregraft\.(\w+)\(", page("README.md")):
        assert name in regraft.__all__


@pytest.mark.parametrize("target", ["demo", "test", "check", "fix", "bench"])
def test_make_targets_that_are_named_exist(target):
    assert f"make {target}" in page("CONTRIBUTING.md")
    assert re.search(rf"^{target}:", page("Makefile"), re.MULTILINE)


def test_generated_pages_are_up_to_date():
    done = subprocess.run([sys.executable, str(ROOT / "docs/generate.py"), "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_stale_page_is_named_with_what_mends_it(tmp_path):
    script = tmp_path / "generate.py"
    script.write_text(page("docs/generate.py"), encoding="utf-8")
    (tmp_path / "commands.md").write_text("old\n", encoding="utf-8")
    (tmp_path / "models.md").write_text(page("docs/models.md"), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "commands.md differs" in done.stderr
    assert "models.md" not in done.stderr
    assert "make fix" in done.stderr


def test_generated_pages_hold_no_colours_and_nothing_of_the_machine():
    for name in ("docs/commands.md", "docs/models.md"):
        assert "\x1b" not in page(name)
        assert str(Path.home()) not in page(name)


def test_versions_agree():
    (in_project,) = re.findall(r'^version = "(.+)"$', page("pyproject.toml"), re.MULTILINE)
    newest = re.findall(r"^## \[(.+?)\]", page("CHANGELOG.md"), re.MULTILINE)[0]
    assert in_project == regraft.__version__ == newest


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    text = re.sub(r"^```.*?^```", "", page(name), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        path = (ROOT / name).parent / target.split("#", 1)[0]
        assert path.exists(), f"{name} links to {target}"


@pytest.mark.parametrize("name", PAGES)
def test_files_that_pages_name_exist(name):
    for path in re.findall(r"`((?:tests|docs|src|demo|benchmarks)/[\w./-]+\.\w+)`", page(name)):
        assert (ROOT / path).is_file(), f"{name} names {path}"
