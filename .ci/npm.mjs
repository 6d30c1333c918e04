// Installs npm into a directory: DIRECTORY/bin/npm. Debian's package of it would bring 350 others along.
// usage: node .ci/npm.mjs DIRECTORY
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";

// The newest for Node.js 18, which Debian 12 and Ubuntu 24.04 have.
const version = "10.9.9";
const integrity = "sha512-1g+6jLQvaIuB4zwvHL7yrXuXcWZwDsCtBX8bbWDqbvJSSr9nPiDDWTHNgwXR27iIcTTW7v3A57hDW9RYv2W4Yg==";

const [directory] = process.argv.slice(2);
if (!directory) throw new Error("usage: node .ci/npm.mjs DIRECTORY");
const registry = (process.env.npm_config_registry ?? "https://registry.npmjs.org").replace(/\/$/, "");
const address = `${registry}/npm/-/npm-${version}.tgz`;
const answer = await fetch(address);
if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
const bytes = Buffer.from(await answer.arrayBuffer());
const got = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
if (got !== integrity) throw new Error(`${address} is not what it should be: ${got} instead of ${integrity}`);

rmSync(directory, { recursive: true, force: true });
const [library, programs] = [join(directory, "lib"), join(directory, "bin")];
for (const made of [library, programs]) mkdirSync(made, { recursive: true });
execFileSync("tar", ["-xz", "-C", library, "--strip-components=1"], { input: bytes });
chmodSync(join(library, "bin/npm-cli.js"), 0o755);
symlinkSync("../lib/bin/npm-cli.js", join(programs, "npm"));
