import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import config from "../deno.json" with { type: "json" };

const ROOT = join(import.meta.dirname!, "..");

/** Runs the command line from the checkout. */
async function tilereel(args: string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", join(ROOT, "cli/main.ts"), ...args],
    stdin: "null",
    env: { NO_COLOR: "1", ...env },
  }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

Deno.test("--help and --version", async () => {
  for (const args of [[], ["--help"], ["-h"], ["help"]]) {
    const { code, out, err } = await tilereel(args);
    assertEquals([code, err], [0, ""]);
    for (const command of ["generate", "info", "parity"]) assertStringIncludes(out, `\n  ${command}`);
  }
  assertEquals(await tilereel(["--version"]), { code: 0, out: `tilereel ${config.version}\n`, err: "" });
  for (const args of [["info", "--help"], ["help", "info"], ["info", "x", "y", "-h"]]) {
    const { code, out } = await tilereel(args);
    assertEquals(code, 0);
    assertStringIncludes(out, "Usage: tilereel info");
  }
});

Deno.test("bad input: one sentence on the standard error, exit 1", async () => {
  const refused = async (args: string[], message: string) => {
    const { code, out, err } = await tilereel(args);
    assertEquals({ code, out, lines: err.split("\n").length }, { code: 1, out: "", lines: 2 }, err);
    assertStringIncludes(err, `tilereel: ${message}`);
  };
  await refused(["genrate", "x"], '"genrate" is no tilereel command: did you mean "tilereel generate"?');
  await refused(["toString"], '"toString" is no tilereel command');
  await refused(["--versoin"], '"--versoin" is no option of tilereel');
  await refused(["info", "--jso"], '--jso is no option of "tilereel info": did you mean --json?');
  await refused(["info", "a", "b"], 'unexpected argument "b"');
  await refused(["info", "/nonexistent"], "/nonexistent does not exist");
});

Deno.test("info shows a model's parts and defaults", async () => {
  const { code, out, err } = await tilereel(["info", join(ROOT, "model/demo"), "--json"]);
  assertEquals(code, 0, err);
  const { adapters, model } = JSON.parse(out);
  assertEquals(Array.isArray(adapters), true);
  assertEquals(
    model.components.map(({ name, dtypes, files }: { name: string; dtypes: string[]; files: unknown[] }) => [
      name,
      dtypes,
      files.length,
    ]),
    [["transformer", ["BF16"], 3], ["vae", ["F32"], 1], ["text_encoder", ["F32"], 1]],
  );
  assertEquals([model.defaults.width, model.defaults.frames, model.missing], [128, 29, []]);
  assertStringIncludes((await tilereel(["info", join(ROOT, "model/demo")])).out, "128x128, 29 frames at 16 fps");
});
