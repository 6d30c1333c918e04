// Called by Trunk's hooks (Trunk.toml). `vendor` bundles what comes from npm, and the style sheet, into static/gen
// before the build; `compress` minifies the bridge to the program and writes a Brotli copy beside each file of the
// finished page, so that the server never compresses anything. It must not fetch anything but the packages named in package-lock.json.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { licences } from "./licences.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const gen = join(here, "gen");

/** `npm ci`, unless node_modules is at least as new as the lock file. */
function install() {
  const stamp = (file) => statSync(join(here, file), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (stamp("node_modules/.package-lock.json") >= stamp("package-lock.json")) return;
  execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
}

/** Writes `text` only if it differs, so that `trunk serve` does not see a change where there is none. */
function put(file, text) {
  let old;
  try { old = readFileSync(file); } catch { /* a new file */ }
  if (!old || !old.equals(Buffer.from(text))) writeFileSync(file, text);
}

async function vendor() {
  install();
  const { build } = await import("esbuild");
  const common = { absWorkingDir: here, bundle: true, minify: true, legalComments: "none", write: false, metafile: true };
  mkdirSync(join(gen, "lazy"), { recursive: true });

  // What the page fetches only when it is used, and its worker; the names hold a hash, so they may be cached for ever.
  const apart = { ...common, format: "esm", entryNames: "[name]-[hash]", outdir: "gen/lazy" };
  // Of xterm.js, what is its own (`_core`, …) gets short names, the same in all of its parts: 4 KB less to load first. Tests look
  // at some of it by name.
  const short = { mangleProps: /^_[a-zA-Z]/, reserveProps: /^_(core|renderService|renderer)$/ };
  const addons = await build({ ...apart, ...short, mangleCache: {}, entryPoints: ["src/search.js", "src/webgl.js"] });
  const others = await build({ ...apart, entryPoints: ["src/editor.js", "src/link.js", "src/run.js"] });
  const lazy = [...addons.outputFiles, ...others.outputFiles];
  const names = lazy.map((file) => file.path.split("/").pop());
  for (const file of readdirSync(join(gen, "lazy"))) if (!names.includes(file)) rmSync(join(gen, "lazy", file));
  for (const file of lazy) put(file.path, file.contents);
  const url = (start) => JSON.stringify(`/lazy/${names.find((name) => name.startsWith(start))}`);

  const first = await build({
    ...common, ...short, mangleCache: addons.mangleCache, format: "iife", globalName: "vendor", entryPoints: ["src/vendor.js"], outdir: "gen", external: ["/lazy/*"],
    alias: { "common/services/UnicodeService": "./src/unicode-service.js" },
    define: { EDITOR_URL: url("editor"), LINK_URL: url("link"), RUN_URL: url("run"), SEARCH_URL: url("search"), WEBGL_URL: url("webgl") },
  });
  const styles = await build({ ...common, entryPoints: ["app.css"], outdir: "gen", external: ["*.svg"] });
  for (const file of [...first.outputFiles, ...styles.outputFiles]) put(file.path, file.contents);
  put(join(gen, "licences.txt"), licences(here, [addons, others, first, styles].map((built) => built.metafile)));
}

async function compress() {
  const root = process.env.TRUNK_STAGING_DIR;
  if (!root) throw new Error("compress is called by Trunk, which sets TRUNK_STAGING_DIR");
  const { transform } = await import("esbuild");
  // A debug build is looked at from this machine; only a release is worth the seconds.
  const quality = process.env.TRUNK_PROFILE === "release" ? 11 : 4;
  const walk = (dir) => readdirSync(dir, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? walk(join(dir, entry.name)) : [join(dir, entry.name)]));
  for (const file of walk(root).filter((name) => /\.(html|js|css|wasm|svg|json|txt)$/.test(name))) {
    let raw = readFileSync(file);
    // The bridge between JavaScript and the program, as wasm-bindgen wrote it.
    if (/\/frontend-[0-9a-f]+\.js$/.test(file)) {
      raw = Buffer.from((await transform(raw.toString(), { format: "esm", minify: true, legalComments: "none" })).code);
      writeFileSync(file, raw);
    }
    const params = { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_SIZE_HINT]: raw.length };
    writeFileSync(`${file}.br`, brotliCompressSync(raw, { params }));
  }
}

const jobs = { vendor, compress };
const job = jobs[process.argv[2]];
if (!job) throw new Error(`usage: node static/build.mjs ${Object.keys(jobs).join("|")}`);
await job();
