import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { COMMANDS } from "../../../cli/command_table.ts";
import { commandHelp, mainHelp } from "../../../tools/program/help.ts";
import { ENVIRONMENT } from "../../../gpu/common/environment.ts";
import { listFiles, ROOT } from "../../process.ts";

Deno.test("the environment is read through its table alone, all of which help lists", async () => {
  const sources = [
    "mod.ts",
    ...["cli", "model", "gpu", "tools/program"].flatMap((dir) =>
      listFiles(join(ROOT, dir)).filter((name) => name.endsWith(".ts")).map((name) => `${dir}/${name}`)
    ),
    // One is the table, and one removes names that it does not know.
  ].filter((path) => path !== "gpu/common/environment.ts" && path !== "cli/rights/linker_variables.ts");
  const reads = /Deno\.env\.(get|has|toObject)|\bprocess\.env\b|Deno\[["']env|\benv\.get\(/;
  const around: string[] = [];
  for (const path of sources) if (reads.test(await Deno.readTextFile(join(ROOT, path)))) around.push(path);
  assertEquals(around, [], "read variables by variable() of environment.ts");

  const help = mainHelp(COMMANDS, {});
  for (const name of Object.keys(ENVIRONMENT)) assertStringIncludes(help, `\n  ${name} `);
  const { command } = await import("../../../cli/commands/generate.ts");
  assertStringIncludes(commandHelp(command), "Environment variables:\n  TILEREEL_CACHE ");
  assertEquals(commandHelp(command).includes("TILEREEL_CWD"), false);
});
