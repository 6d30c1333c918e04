// The licences of what the page and the program are made of besides our own code, as one text that the page links to: of the npm packages
// that are in the bundles, and of all crates that are compiled into a program.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

/** Files in a package's directory that tell its licence. */
function texts(directory) {
  const named = (name) => /^(licen[cs]e|copying|notice|copyright)/i.test(name) && statSync(join(directory, name)).isFile();
  return readdirSync(directory).filter(named).sort().map((name) => readFileSync(join(directory, name), "utf8").trim());
}

/** The npm packages whose files are in esbuild's bundles. */
function packages(root, metafiles) {
  const names = new Set();
  for (const input of metafiles.flatMap((meta) => Object.keys(meta.inputs))) {
    const name = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
    if (name) names.add(name);
  }
  return [...names].map((name) => {
    const directory = join(root, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    return { name: `${name} ${version}`, license, texts: texts(directory) };
  });
}

/** The crates that our programs are linked from; not those that only build or test them. */
function crates(root) {
  const host = /^host: (.+)$/m.exec(execFileSync("rustc", ["-vV"], { encoding: "utf8" }))[1];
  const platforms = [host, "wasm32-unknown-unknown"].map((platform) => `--filter-platform=${platform}`);
  const args = ["metadata", "--format-version=1", "--locked", "--manifest-path", join(root, "Cargo.toml"), ...platforms];
  const metadata = JSON.parse(execFileSync("cargo", args, { maxBuffer: 1 << 30, stdio: ["ignore", "pipe", "inherit"] }));
  const nodes = new Map(metadata.resolve.nodes.map((node) => [node.id, node]));
  const ours = new Set(metadata.workspace_members);
  const name = (id) => metadata.packages.find((one) => one.id === id)?.name;
  const todo = [...ours].filter((id) => !["drydock-bindgen", "drydock-e2e"].includes(name(id)));
  const linked = new Set();
  while (todo.length) {
    const id = todo.pop();
    if (linked.has(id)) continue;
    linked.add(id);
    const normal = (dep) => dep.dep_kinds.some(({ kind }) => kind === null);
    todo.push(...nodes.get(id).deps.filter(normal).map((dep) => dep.pkg));
  }
  const foreign = metadata.packages.filter((one) => linked.has(one.id) && !ours.has(one.id));
  return foreign.map((one) => {
    const directory = dirname(one.manifest_path);
    const license = one.license ?? "see its text";
    return { name: `${one.name} ${one.version}`, license, texts: existsSync(directory) ? texts(directory) : [] };
  });
}

/** One text of all, each licence's words once. */
export function licences(here, metafiles) {
  const all = [...packages(here, metafiles), ...crates(dirname(here))].sort((a, b) => (a.name < b.name ? -1 : 1));
  const groups = new Map();
  for (const one of all) {
    for (const text of one.texts) {
      const key = text.replace(/\s+/g, " ");
      groups.set(key, { text, names: [...(groups.get(key)?.names ?? []), one.name] });
    }
  }
  const list = all.map((one) => `${one.name}: ${one.license}`).join("\n");
  const words = [...groups.values()].map(({ text, names }) => `${"-".repeat(80)}\n${[...new Set(names)].join(", ")}\n\n${text}\n`);
  return `Drydock contains these packages, under these licences.\n\n${list}\n\n${words.join("\n")}`;
}
