"""Mutates a sample of lines, one at a time, and tells which changes the tests did not notice.

    pip install -e '.[dev,mutants]'
    python tests/mutants.py pytest_shelleval/core --lines 40 --seed 1

Works on copies of the tree; the checkout is never changed. Cosmic Ray makes the changes.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkResult

ROOT = Path(__file__).resolve().parents[1]
MOST_AT_ONCE = 2
MOST_SURVIVORS = 0.1
_SAME = frozenset(
    f"core/ReplaceComparisonOperator_{a}_{b}"
    for pair in (("Eq", "Is"), ("NotEq", "IsNot"))
    for a, b in (pair, pair[::-1])
)
"""These change nothing for literals, None, True and False."""
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "dist", "build")
_Place = tuple[int, int]
"""Line, from 1, and column, from 0."""


def mutants_of(path: Path) -> Iterator[MutationSpec]:
    """Every change that could be made in a file, except in type annotations."""
    annotations = list(_annotations(ast.parse((ROOT / path).read_bytes())))
    tree = get_ast_from_path(ROOT / path)
    for name in operator_names():
        operator = get_operator(name)
        if name in _SAME or operator.arguments():  # the latter have to be told what to do
            continue
        positions = (
            each for node in ast_nodes(tree) for each in operator().mutation_positions(node)
        )
        for number, (start, end) in enumerate(positions):
            if not any(first <= start < last for first, last in annotations):
                yield MutationSpec(path, name, number, start, end)


def _annotations(tree: ast.AST) -> Iterator[tuple[_Place, _Place]]:
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if found is not None:
                yield (
                    (found.lineno, found.col_offset),
                    (found.end_lineno, found.end_col_offset),
                )


def sample(paths: Sequence[Path], lines: int, seed: int) -> list[MutationSpec]:
    """One change in each of so many lines; only changes that leave valid Python."""
    by_line = defaultdict(list)
    for path in paths:
        for mutant in mutants_of(path):
            by_line[path, mutant.start_pos[0]].append(mutant)
    chance = random.Random(seed)
    order = sorted(by_line)
    chance.shuffle(order)
    for place in order:
        chance.shuffle(by_line[place])
    chosen = (next(filter(_is_python, by_line[place]), None) for place in order)
    return list(islice(filter(None, chosen), lines))


def _is_python(mutant: MutationSpec) -> bool:
    code = (ROOT / mutant.module_path).read_text(encoding="utf-8")
    changed = mutate_code(code, get_operator(mutant.operator_name)(), mutant.occurrence)
    try:
        return changed is not None and ast.dump(ast.parse(changed)) != ast.dump(ast.parse(code))
    except SyntaxError:
        return False


def command_for(path: Path, tests: Path) -> str:
    """Runs *tests*, those that are named like the module first: most changes end there."""
    files = sorted(tests.rglob("test_*.py"), key=lambda each: (path.stem not in each.stem, each))
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    return shlex.join([*pytest, *(str(each.relative_to(ROOT)) for each in files)])


def enter_copy(copies: str) -> None:
    """Go to a copy of the tree that is this process's own, and import the package from there."""
    folder = Path(tempfile.mkdtemp(dir=copies)) / "tree"
    shutil.copytree(ROOT, folder, ignore=_NOT_COPIED)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)


def survives(mutant: MutationSpec, command: str, seconds: float) -> WorkResult:
    """Make the change in this process's copy, run *command*, and take the change back."""
    return mutate_and_test([mutant], command, seconds)


def shown(mutant: MutationSpec, result: WorkResult) -> str:
    """Where it is and what was changed."""
    changed = [
        f"    {line}"
        for line in (result.diff or result.output or "").splitlines()
        if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")
    ]
    place = f"{mutant.module_path}:{mutant.start_pos[0]}"
    return "\n".join([f"{place}  {mutant.operator_name.removeprefix('core/')}", *changed])


def main() -> int:
    """Exit status 1 where more than a tenth survive."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="packages or modules to change")
    parser.add_argument("--lines", type=int, default=40, help="how many lines (40)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument(
        "--tests",
        type=Path,
        help="the folder of tests to run (that named like the package, or plugin)",
    )
    asked = parser.parse_args()
    roots = [path.resolve() for path in asked.paths]
    tests = (asked.tests or ROOT / "tests" / roots[0].name).resolve()
    if not tests.is_dir():
        tests = ROOT / "tests" / "plugin"
    modules = [
        path for root in roots for path in ([root] if root.is_file() else root.rglob("*.py"))
    ]
    mutants = sample(sorted(each.relative_to(ROOT) for each in modules), asked.lines, asked.seed)

    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as copies,
        ProcessPoolExecutor(MOST_AT_ONCE, initializer=enter_copy, initargs=(copies,)) as pool,
    ):
        begun = time.monotonic()
        outcome, output = pool.submit(run_tests, command_for(Path(), tests), 3600).result()
        if outcome != TestOutcome.SURVIVED:
            print(output, f"{tests} fails without any change", sep="\n")
            return 2
        # two run at once, and one that loops costs this much
        seconds = 60 + 3 * (time.monotonic() - begun)
        print(
            f"{len(mutants)} lines, {tests.relative_to(ROOT)}, {seconds:.0f} s at most", flush=True
        )
        running = [
            pool.submit(survives, mutant, command_for(mutant.module_path, tests), seconds)
            for mutant in mutants
        ]
        survivors = 0
        for mutant, future in zip(mutants, running, strict=True):
            result = future.result()
            killed = result.test_outcome == TestOutcome.KILLED
            survivors += not killed
            late = " (time-out)" if result.output == "timeout" else ""
            said = (
                f"killed{late}" if killed else str(result.test_outcome or "none").rpartition(".")[2]
            )
            print(f"{said.lower()}  {shown(mutant, result)}", flush=True)
    print(f"{len(mutants) - survivors} killed, {survivors} survived")
    return int(survivors > MOST_SURVIVORS * len(mutants))


if __name__ == "__main__":
    sys.exit(main())
