/** Puts a copy of protos/ into the package before it is packed; with --clean takes it and the types away again. */
import { cpSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const path = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));

for (const made of ["../protos", "../types"]) rmSync(path(made), { recursive: true, force: true });
if (!process.argv.includes("--clean")) {
  cpSync(path("../../../protos"), path("../protos"), {
    recursive: true,
    filter: (source) => !/\.\w+$/.test(source) || source.endsWith(".proto"),
  });
}
