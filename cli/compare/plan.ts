import { basename, join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { ClipValues } from "../../tools/program/clip/clip_options.ts";
import { overlay } from "../../tools/program/clip/clip_settings.ts";
import { checkWritable } from "../../model/files/output.ts";
import { checkPrompt } from "../../tools/program/clip/clip_settings.ts";
import { reportFiles } from "../report/write_report.ts";
import { readPrompts } from "../../tools/program/prompts_file.ts";
import { slug } from "../../tools/program/clip/slug.ts";

/** One prompt to render with every setting. */
export interface PlannedPrompt {
  readonly prompt: string;
  readonly seed: number;
  /** The values that hold for all settings. */
  readonly values: ClipValues;
}

/** A fixed seed, so that an interrupted comparison continues with the same noise. */
const DEFAULT_SEED = 0;

/**
 * Works out, before any model is loaded, which prompts a comparison has, one or those of a file, and where it goes.
 *
 * @param values what holds for every prompt; lines of the file may say otherwise
 * @returns the prompts, and the folder where everything goes
 * @throws {TilereelError} for prompts that cannot be used, or a place that cannot be written
 */
export async function planComparison(
  prompt: string | undefined,
  { prompts, out }: { readonly prompts?: string; readonly out?: string },
  values: ClipValues,
): Promise<{ folder: string; prompts: PlannedPrompt[] }> {
  const planned = await promptsOf(prompt, prompts, values);
  const { seed } = planned[0]!;
  const subject = prompts === undefined ? `${slug(prompt!)}-${seed}` : slug(basename(prompts).replace(/\.\w+$/, ""));
  const folder = out ?? join("out", `compare-${subject}`);
  if (await Deno.stat(folder).then((info) => info.isFile, () => false)) {
    throw new TilereelError(`cannot write ${folder}: that is a file; name a folder with --out`);
  }
  await checkWritable(join(folder, slug(planned[0]!.prompt)));
  for (const file of Object.values(reportFiles(folder))) await checkWritable(file, { asFile: true });
  return { folder, prompts: planned };
}

async function promptsOf(
  prompt: string | undefined,
  path: string | undefined,
  values: ClipValues,
): Promise<PlannedPrompt[]> {
  if (path === undefined) {
    return [{ prompt: checkPrompt(prompt), seed: values.seed ?? DEFAULT_SEED, values }];
  }
  if (prompt !== undefined) throw new TilereelError("give either a prompt or --prompts FILE, not both");
  return (await readPrompts(path)).map((entry) => {
    const merged = overlay(values, entry.values);
    return { prompt: entry.prompt, seed: merged.seed ?? DEFAULT_SEED, values: merged };
  });
}
