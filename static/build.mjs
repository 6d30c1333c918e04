// Makes the page in dist/ of its program (`drydock-bindgen` left that in static/gen/program), what comes from npm, the style sheet and
// frontend/index.html. Names hold a hash of what is in them, and a Brotli copy lies beside each file, so that the server never compresses
// anything. It must not fetch anything but the packages named in package-lock.json.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { licences } from "./licences.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const program = join(here, "gen/program");
// It takes the place of dist/ when it is whole.
const made = join(here, "gen/dist");

/** `npm ci`, unless node_modules is at least as new as the lock file. */
function install() {
  const stamp = (file) => statSync(join(here, file), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (stamp("node_modules/.package-lock.json") >= stamp("package-lock.json")) return;
  execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
}

/** Writes a file whose name tells its content, so that it may be cached for ever; its address and its hash for `integrity`. */
function put(name, content) {
  const bytes = Buffer.from(content);
  const hash = (kind) => createHash(kind).update(bytes);
  const [, stem, extension] = /^(.*)(\..*)$/.exec(name);
  const file = `${stem}-${hash("sha256").digest("hex").slice(0, 16)}${extension}`;
  writeFileSync(join(made, file), bytes);
  return { href: `/${file}`, integrity: `sha384-${hash("sha384").digest("base64")}` };
}

/** Bundles what comes from npm, and the style sheet; writes what is fetched only when it is used. */
async function bundle(build) {
  const common = { absWorkingDir: here, bundle: true, minify: true, legalComments: "none", write: false, metafile: true };
  const apart = { ...common, format: "esm", entryNames: "[name]-[hash]", outdir: "gen/dist/lazy", write: true };
  // Of xterm.js, what is its own (`_core`, …) gets short names, the same in all of its parts: 4 KB less to load first. Tests look
  // at some of it by name.
  const short = { mangleProps: /^_[a-zA-Z]/, reserveProps: /^_(core|renderService|renderer)$/ };
  const addons = await build({ ...apart, ...short, mangleCache: {}, entryPoints: ["src/search.js", "src/webgl.js"] });
  const others = await build({ ...apart, entryPoints: ["src/editor.js", "src/link.js", "src/run.js"] });
  const names = readdirSync(join(made, "lazy"));
  const url = (start) => JSON.stringify(`/lazy/${names.find((name) => name.startsWith(start))}`);

  const first = await build({
    ...common, ...short, mangleCache: addons.mangleCache, format: "iife", globalName: "vendor", entryPoints: ["src/vendor.js"], outdir: "gen", external: ["/lazy/*"],
    alias: { "common/services/UnicodeService": "./src/unicode-service.js" },
    define: { EDITOR_URL: url("editor"), LINK_URL: url("link"), RUN_URL: url("run"), SEARCH_URL: url("search"), WEBGL_URL: url("webgl") },
  });
  const styles = await build({ ...common, entryPoints: ["app.css"], outdir: "gen", external: ["*.svg"] });
  const text = licences(here, [addons, others, first, styles].map((built) => built.metafile));
  return { scripts: first.outputFiles[0].contents, styles: styles.outputFiles[0].contents, licences: text };
}

/** `frontend/index.html` with what it is to load. */
function index(styles, scripts, bridge, wasm) {
  const place = /^.*static\/build\.mjs.*$/m;
  const template = readFileSync(join(root, "frontend/index.html"), "utf8");
  if (!place.test(template)) throw new Error("frontend/index.html has no line for what static/build.mjs puts there");
  return template.replace(place, `\
    <link rel="stylesheet" href="${styles.href}" integrity="${styles.integrity}" />
    <link rel="modulepreload" href="${bridge.href}" crossorigin="anonymous" />
    <link rel="preload" href="${wasm.href}" crossorigin="anonymous" as="fetch" type="application/wasm" />
    <script src="${scripts.href}" defer integrity="${scripts.integrity}"></script>
    <script type="module">import init from "${bridge.href}"; await init({ module_or_path: "${wasm.href}" });</script>`);
}

/** Writes a Brotli copy beside each file that gets smaller. */
function compress(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !/\.(html|js|css|wasm|svg|json|txt)$/.test(entry.name)) continue;
    const file = join(entry.parentPath ?? entry.path, entry.name);
    const raw = readFileSync(file);
    const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: raw.length };
    writeFileSync(`${file}.br`, brotliCompressSync(raw, { params }));
  }
}

install();
const { build, transform } = await import("esbuild");
rmSync(made, { recursive: true, force: true });
mkdirSync(made, { recursive: true });
const bundled = await bundle(build);
// The bridge between JavaScript and the program, as wasm-bindgen wrote it.
const glue = await transform(readFileSync(join(program, "frontend.js"), "utf8"), { format: "esm", minify: true, legalComments: "none" });
const bridge = put("frontend.js", glue.code);
const wasm = put("frontend_bg.wasm", readFileSync(join(program, "frontend_bg.wasm")));
writeFileSync(join(made, "index.html"), index(put("app.css", bundled.styles), put("vendor.js", bundled.scripts), bridge, wasm));
writeFileSync(join(made, "licences.txt"), bundled.licences);
cpSync(join(here, "icons"), join(made, "icons"), { recursive: true });
compress(made);
const dist = join(root, "dist");
rmSync(dist, { recursive: true, force: true });
renameSync(made, dist);
