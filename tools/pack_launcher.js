#!/usr/bin/env node
// The command `tilereel` of the npm package, which npm starts with Node: hands over to Deno.
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** For machines with Node alone. */
const FETCHED = ["--yes", "deno@2.9.6"];

/** As RUN_FLAGS of tools/stage_program.ts. */
const FLAGS = ["-A", "--no-prompt", "--unstable-worker-options"];

const main = fileURLToPath(new URL("./cli/main.js", import.meta.url));
const args = ["run", ...FLAGS, "--no-config", "--quiet", main, ...process.argv.slice(2)];

/** Starts the program; `missing` is called where there is no such command. */
function start(command, before, missing) {
  const child = spawn(command, [...before, ...args], { stdio: "inherit" });
  // The terminal sends Ctrl-C to both, and the program says how it ends.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.on("error", missing);
  child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGTERM" ? 143 : 130)));
}

function noDeno() {
  console.error("tilereel: Deno could not be started: install it (https://deno.com), or npx, which fetches it");
  process.exit(1);
}

if ("Deno" in globalThis) start(process.execPath, [], noDeno);
else start("deno", [], () => start("npx", FETCHED, noDeno));
