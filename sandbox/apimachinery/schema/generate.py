#!/usr/bin/env python3
"""Writes `v1.35.jsonl`, the table of all types of Kubernetes' API, from packages that Debian, PyPI and crates.io distribute.

    generate.py GOCODE DEFINITIONS PROTOBUF > v1.35.jsonl

GOCODE is `/usr/share/gocode/src/k8s.io` of Debian's packages golang-k8s-{api,apimachinery,apiextensions-apiserver}-dev 0.36.4 and
golang-k8s-metrics-dev 0.36.5 (forky): their `types.go` tell names, Go types, JSON and protobuf tags and merge markers.
DEFINITIONS is the file of published OpenAPI definitions of 1.35 (`v1.35.0-local/_definitions.json` of the PyPI wheel
kubernetes-validate 1.37.0): descriptions, enums and required fields come from there, and what it lacks is newer than 1.35 and left
out. PROTOBUF is the folder `src` of the crate k8s-pb 0.9.0: protobuf tags of the types that Debian has no package for. All are
(c) The Kubernetes Authors, Apache License 2.0; so is the table made from them.

A line of the table is a type: `name`, `doc`, `gvk` (group, version, kind) of kinds, `required`, `map` (atomic) and `fields`. A field:
`n` JSON name, `p` protobuf tag, `y` type as Go writes it (`*` pointer, `[]` list, `map[string]`), `o` what is left out when writing
(`e` omitempty, `z` omitzero), `d` description, `enum`, `default`, `list` (atomic, set, map), `keys` (of list type map), `map`,
`ps` and `pk` (patch strategy and merge key). A field without `n` is inlined in JSON, but a message of its own in protobuf.
"""

import json
import re
import sys
from pathlib import Path

LEAVES = {
    "string": "string", "bool": "bool", "int32": "int32", "int64": "int64", "float64": "float64", "byte": "byte",
    "int": "int64", "rune": "int32", "uint32": "uint32", "uint64": "uint64",
    "resource.Quantity": "Quantity", "intstr.IntOrString": "IntOrString",
    "metav1.Time": "Time", "meta.Time": "Time", "Time": "Time", "metav1.MicroTime": "MicroTime", "MicroTime": "MicroTime",
    "metav1.Duration": "Duration", "Duration": "Duration", "runtime.RawExtension": "RawExtension", "FieldsV1": "FieldsV1",
    "types.UID": "string", "types.NodeName": "string", "types.PatchType": "string",
    "JSON": "JSON", "JSONSchemaPropsOrBool": "JSONSchemaPropsOrBool", "JSONSchemaPropsOrArray": "JSONSchemaPropsOrArray",
    "JSONSchemaPropsOrStringArray": "JSONSchemaPropsOrStringArray",
}
# Repository, folder, group, prefix of the definition's name.
PACKAGES = [("api", f"{g}/{v}", name, f"io.k8s.api.{g}.{v}") for g, v, name in [
    ("admissionregistration", "v1", "admissionregistration.k8s.io"), ("apps", "v1", "apps"),
    ("authentication", "v1", "authentication.k8s.io"), ("authorization", "v1", "authorization.k8s.io"),
    ("autoscaling", "v1", "autoscaling"), ("autoscaling", "v2", "autoscaling"), ("batch", "v1", "batch"),
    ("certificates", "v1", "certificates.k8s.io"), ("coordination", "v1", "coordination.k8s.io"), ("core", "v1", ""),
    ("discovery", "v1", "discovery.k8s.io"), ("events", "v1", "events.k8s.io"),
    ("flowcontrol", "v1", "flowcontrol.apiserver.k8s.io"), ("networking", "v1", "networking.k8s.io"),
    ("node", "v1", "node.k8s.io"), ("policy", "v1", "policy"), ("rbac", "v1", "rbac.authorization.k8s.io"),
    ("resource", "v1", "resource.k8s.io"), ("scheduling", "v1", "scheduling.k8s.io"), ("storage", "v1", "storage.k8s.io"),
]] + [
    ("apimachinery", "pkg/apis/meta/v1", "meta.k8s.io", "io.k8s.apimachinery.pkg.apis.meta.v1"),
    ("apiextensions-apiserver", "pkg/apis/apiextensions/v1", "apiextensions.k8s.io",
     "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"),
    ("metrics", "pkg/apis/metrics/v1beta1", "metrics.k8s.io", "io.k8s.metrics.pkg.apis.metrics.v1beta1"),
]
# Not packaged by Debian: made from the published definitions and the crate's tags.
AGGREGATOR = ("apiregistration.k8s.io", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1")
# Kinds that the published definitions lack.
EXTRA = {"metrics": ["NodeMetrics", "NodeMetricsList", "PodMetrics", "PodMetricsList"],
         "meta": ["CreateOptions", "UpdateOptions", "PatchOptions", "GetOptions", "ListOptions", "PartialObjectMetadata",
                  "PartialObjectMetadataList"]}
# Members newer than 1.35 of types without a published definition.
NEWER = {("ListOptions", "shardSelector")}


def short(prefix):
    """`io.k8s.api.core.v1` is `core.v1`."""
    return ".".join(prefix.split(".")[-2:])


def parse(folder):
    """Structs (fields with markers), and aliases, of a package."""
    structs, aliases, imports = {}, {}, {}
    for file in sorted(folder.glob("types*.go")):
        if "swagger" in file.name:
            continue
        comment, name = [], None
        for line in re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.S).split("\n"):
            text = line.strip()
            if found := re.match(r'(?:import )?(\w+)?\s*"(k8s\.io/[^"]+)"$', text):
                path = found[2].split("/")
                imports[found[1] or path[-1]] = found[2]
            if name is None:
                if found := re.match(r"type (\w+) struct ?\{(\})?", text):
                    doc = comment
                    structs[found[1]] = {"doc": doc, "fields": []}
                    name, comment = (None if found[2] else found[1]), []
                elif found := re.match(r"type (\w+) =? ?([^\s{]+)", text):
                    aliases[found[1]], comment = found[2], []
                elif text.startswith("//"):
                    comment.append(text[2:].strip())
                elif not text:
                    comment = [c for c in comment if c.startswith("+")]
                else:
                    comment = []
            elif text == "}":
                name, comment = None, []
            elif text.startswith("//"):
                comment.append(text[2:].strip())
            elif not text:
                comment = []
            elif found := re.match(r"(\w+\s+)?([\w.*\[\]]+)\s*(`[^`]*`)?", text):
                structs[name]["fields"].append((found[2], found[3] or "", comment))
                comment = []
    return structs, aliases, imports


def description(comment):
    """A comment as openapi-gen makes it a description, nearly: paragraphs are kept, markers and TODOs are not."""
    out, paragraph = [], []
    for line in comment + [""]:
        if line == "---":
            line = ""
        if not line or line.startswith("+") or line.startswith("TODO"):
            if paragraph:
                out.append(" ".join(paragraph))
            paragraph = []
            continue
        paragraph.append(line)
    return "\n\n".join(out)


def aggregator(published, protobuf):
    """The rows of the API aggregator's types. Every optional member is a pointer there, but the parts that each kind has."""
    group, prefix = AGGREGATOR
    source = (protobuf / "kube_aggregator/pkg/apis/apiregistration/v1/mod.rs").read_text()
    for full, definition in published.items():
        if not full.startswith(prefix + "."):
            continue
        name = full[len(prefix) + 1:]
        struct = re.search(r"pub struct %s \{(.*?)\n\}" % name, source, re.S)[1]
        properties, required = definition["properties"], definition.get("required", [])
        row = {"name": f"{short(prefix)}.{name}", "full": full, "doc": definition["description"]}
        fields = []
        if "x-kubernetes-group-version-kind" in definition:
            row["gvk"] = [group, "v1", name]
            for one in ("apiVersion", "kind"):
                fields.append({"n": one, "y": "string", "o": "e", "d": properties[one]["description"]})
        if required:
            row["required"] = required
        for tag, rust in re.findall(r'#\[prost\([^)]*tag = ?"(\d+)"\)\]\s*pub (?:r#)?(\w+):', struct):
            json_name = next(n for n in properties if n.lower() == rust.replace("_", ""))
            known = properties[json_name]
            field = {"n": json_name, "p": int(tag), "y": published_type(known)}
            if json_name not in required:
                if field["y"].endswith("ServiceReference") or field["y"] == "int32":
                    field["y"] = "*" + field["y"]
                field["o"] = "e"
            field["d"] = known["description"]
            for key, marker in (("list", "list-type"), ("keys", "list-map-keys"), ("ps", "patch-strategy"), ("pk", "patch-merge-key")):
                if f"x-kubernetes-{marker}" in known:
                    field[key] = known[f"x-kubernetes-{marker}"]
            fields.append(field)
        row["fields"] = fields
        yield row


def published_type(known):
    """The Go type of a property, as the table writes it."""
    if "$ref" in known:
        base = known["$ref"].rsplit("/", 1)[1]
        return base.rsplit(".", 1)[1] if base.endswith("meta.v1.Time") else f"{short(base.rsplit('.', 1)[0])}.{base.rsplit('.', 1)[1]}"
    kind = known["type"] if isinstance(known["type"], str) else next(one for one in known["type"] if one != "null")
    if kind == "array":
        return "[]" + published_type(known["items"])
    return {"boolean": "bool", "integer": known.get("format", "int64"), "string": "[]byte" if known.get("format") == "byte" else "string"}[kind]


def main():
    sources, published = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())["$defs"]
    packages, by_import = {}, {}
    for repository, folder, group, prefix in PACKAGES:
        packages[prefix] = (group, *parse(sources / repository / folder))
        by_import[f"k8s.io/{repository}/{folder}"] = prefix

    def resolve(prefix, go):
        """A Go type as seen from a package: as the table writes it, and the definitions it needs."""
        _, structs, aliases, imports = packages[prefix]
        for start in ("*", "[]", "map[string]"):
            if go.startswith(start):
                inner, needs = resolve(prefix, go[len(start):])
                return start + inner, needs
        if found := re.match(r"map\[(\w+\.)?\w+\](.*)", go):
            inner, needs = resolve(prefix, found[2])
            return "map[string]" + inner, needs
        home, base = prefix, go
        if "." in go:
            package, base = go.split(".")
            home = by_import.get(imports.get(package, ""))
        elif go in LEAVES and go not in structs and go not in aliases:
            return LEAVES[go], []
        if go in LEAVES:
            return LEAVES[go], []
        if home is None:
            raise SystemExit(f"{prefix}: what is {go}?")
        if home.endswith("meta.v1") and base in LEAVES:
            return LEAVES[base], []
        if base in packages[home][1]:
            return f"{short(home)}.{base}", [(home, base)]
        alias = packages[home][2][base]
        # In protobuf, a named list is a message with one repeated field.
        mark = "!" if alias.startswith("[]") and base in ("Verbs", "ExtraValue") else ""
        inner, needs = resolve(home, alias)
        return mark + inner, needs

    queue, done, lines = [], set(), []
    for prefix, (_, structs, _, _) in packages.items():
        for name in structs:
            kind = "x-kubernetes-group-version-kind" in published.get(f"{prefix}.{name}", {})
            if kind or name in EXTRA.get(prefix.split(".")[-2], []):
                queue.append((prefix, name))
    while queue:
        prefix, name = queue.pop()
        if (prefix, name) in done:
            continue
        done.add((prefix, name))
        group, structs, _, _ = packages[prefix]
        full, struct = f"{prefix}.{name}", structs[name]
        definition = published.get(full, {})
        row = {"name": f"{short(prefix)}.{name}", "full": full, "doc": definition.get("description", description(struct["doc"]))}
        if any("TypeMeta" in go and "inline" in tag for go, tag, _ in struct["fields"]):
            row["gvk"] = [group, prefix.rsplit(".", 1)[1], name]
        if required := definition.get("required"):
            row["required"] = required
        markers = " ".join(struct["doc"])
        if "structType=atomic" in markers or "mapType=atomic" in markers:
            row["map"] = "atomic"
        elif definition.get("x-kubernetes-map-type"):
            row["map"] = definition["x-kubernetes-map-type"]
        fields = []
        for go, tag, comment in struct["fields"]:
            json_tag = re.search(r'json:"([^"]*)"', tag)
            json_tag = json_tag[1].split(",") if json_tag else [""]
            if "TypeMeta" in go and "inline" in json_tag:
                for one in ("apiVersion", "kind"):
                    doc = definition.get("properties", {}).get(one, {}).get("description", "")
                    fields.append({"n": one, "y": "string", "o": "e", "d": doc})
                continue
            if json_tag[0] == "-":
                continue
            newer = definition and json_tag[0] not in definition.get("properties", {})
            if json_tag[0] and (newer or (name, json_tag[0]) in NEWER):
                continue
            if not json_tag[0] and "inline" not in json_tag:
                raise SystemExit(f"{full}: {go} {tag}")
            field = {}
            if json_tag[0]:
                field["n"] = json_tag[0]
            if proto := re.search(r'protobuf:"\w+,(\d+)', tag):
                field["p"] = int(proto[1])
            field["y"], needs = resolve(prefix, go)
            queue.extend(needs)
            if omit := "".join(letter for word, letter in (("omitempty", "e"), ("omitzero", "z")) if word in json_tag):
                field["o"] = omit
            known = definition.get("properties", {}).get(json_tag[0], {})
            if doc := known.get("description", description(comment)):
                field["d"] = doc
            enum = known.get("enum") or known.get("items", {}).get("enum")
            if enum and json_tag[0] not in ("kind", "apiVersion"):
                field["enum"] = [one for one in enum if one is not None]
            text = "\n".join(comment)
            if found := re.search(r"^\+default=(.*)$", text, re.M):
                try:
                    field["default"] = json.loads(found[1])
                except json.JSONDecodeError:
                    pass
            if found := re.search(r"^\+listType=(\w+)$", text, re.M):
                field["list"] = found[1]
            elif "x-kubernetes-list-type" in known:
                field["list"] = known["x-kubernetes-list-type"]
            if keys := re.findall(r"^\+listMapKey=(\w+)$", text, re.M):
                field["keys"] = keys
            if found := re.search(r"^\+(?:structType|mapType)=(\w+)$", text, re.M):
                field["map"] = found[1]
            for key, marker in (("ps", "patchStrategy"), ("pk", "patchMergeKey")):
                if found := re.search(rf'{marker}:"([^"]*)"', tag):
                    field[key] = found[1]
            fields.append(field)
        row["fields"] = fields
        lines.append(row)
    lines.extend(aggregator(published, Path(sys.argv[3])))
    for row in sorted(lines, key=lambda row: row["name"]):
        print(json.dumps(row, ensure_ascii=False, separators=(",", ":")))


main()
