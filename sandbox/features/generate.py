#!/usr/bin/env python3
"""Writes the dependencies in Cargo.toml: every library that more than one program is made of and of which Cargo would otherwise build
several variants, with all features that any of them wants. Run it when dependencies changed; it needs Cargo and the network.

What remains different afterwards is built for the machine that compiles (build scripts, macros) and little.
"""

import re
import subprocess
from pathlib import Path

PROGRAMS = ("drydock-kube", "drydock", "drydock-wasm")
# Macros and what only they use are another list.
OF_THE_COMPILER = {"syn", "cc", "displaydoc"}
# Ours to use in one program only: what the others have of it is for their build scripts.
LEFT = {"postcard", "object", "wasmtime-environ"}
HERE = Path(__file__).with_name("Cargo.toml")
HEAD = HERE.read_text().split("[dependencies]")[0]


def variants(program):
    """(name, version) to the sets of features in which a program's build has it."""
    command = ["cargo", "tree", "-p", program, "-e", "normal,build", "--prefix", "none", "-f", "{p} [{f}]"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in text.splitlines():
        match = re.match(r"(\S+) v(\S+)(?: \(.*?\))* \[(.*)\]", line.replace(" (*)", "").strip())
        if match and not match[1].startswith("drydock"):
            found.setdefault((match[1], match[2]), set()).add(frozenset(filter(None, match[3].split(","))))
    return found


def differing():
    """The libraries of which programs want different features, with all those features."""
    every = {}
    for program in PROGRAMS:
        for library, sets in variants(program).items():
            every.setdefault(library, []).append(frozenset(sets))
    return {
        library: frozenset().union(*[features for sets in all_sets for features in sets])
        for library, all_sets in every.items()
        if len(set(all_sets)) > 1 and library[0] not in LEFT
    }


def line(name, version, features, is_alone):
    major = version.split(".")
    short = major[0] if major[0] != "0" else "0." + major[1]
    key, package = (name, "") if is_alone else (f"{name}-{short.replace('.', '-')}", f'package = "{name}", ')
    default = "" if "default" in features else "default-features = false, "
    wanted = ", ".join(f'"{feature}"' for feature in sorted(features - {"default"}))
    return f'{key} = {{ {package}version = "{short}", {default}features = [{wanted}] }}\n'


def write(libraries):
    names = [name for name, _ in libraries]
    sections = {"dependencies": "", "build-dependencies": ""}
    for (name, version), features in sorted(libraries.items()):
        section = "build-dependencies" if name in OF_THE_COMPILER else "dependencies"
        sections[section] += line(name, version, features, names.count(name) == 1)
    # Features of libraries that are not there yet would be an error.
    head = HEAD if "tokio" in names else HEAD.replace('"tokio/test-util"', "")
    body = "\n".join(f"[{section}]\n{lines}" for section, lines in sections.items())
    HERE.write_text(f"{head}{body}\n[lints]\nworkspace = true\n")


def main():
    known = {}
    write(known)
    while True:
        found = {library: features | known.get(library, frozenset()) for library, features in differing().items()}
        if all(known.get(library) == features for library, features in found.items()):
            return
        known.update(found)
        write(known)


main()
