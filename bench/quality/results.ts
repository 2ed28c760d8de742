import { TilereelError } from "../../gpu/common/errors.ts";
import type { ClipFigures } from "./clip_figures.ts";

/** The clips of one setting. */
export interface SettingResult {
  readonly setting: string;
  readonly clips: readonly ClipFigures[];
  /** For routed attention: each head's branch, an index into `BRANCHES`, [steps][layers][heads]. */
  readonly routes?: readonly (readonly (readonly number[])[])[];
}

/** The data of a run, or of a part of it. The first setting is full attention. */
export interface QualityRun {
  readonly results: readonly SettingResult[];
}

/** Reads what --save wrote. */
export async function readRun(path: string): Promise<QualityRun> {
  const run = JSON.parse(await Deno.readTextFile(path)) as QualityRun;
  if (Array.isArray(run?.results)) return run;
  throw new TilereelError(`${path} is no result of this benchmark; a file that --save wrote was expected`);
}

/** Parts of a run as one: the clips of each setting by prompt, each prompt once. */
export function merged(parts: readonly QualityRun[]): QualityRun {
  const results = new Map<string, SettingResult>();
  for (const { results: some } of parts) {
    for (const { setting, clips, routes = results.get(setting)?.routes } of some) {
      const all = new Map([...results.get(setting)?.clips ?? [], ...clips].map((clip) => [clip.prompt, clip]));
      const sorted = [...all.values()].sort((a, b) => a.prompt - b.prompt);
      results.set(setting, { setting, clips: sorted, ...routes && { routes } });
    }
  }
  return { results: [...results.values()] };
}

/** The prompts that every one of these settings has a clip of. */
export function completePrompts({ results }: QualityRun, settings: readonly string[]): Set<number> {
  const lists = settings.map((name) =>
    new Set(results.find(({ setting }) => setting === name)?.clips.map(({ prompt }) => prompt))
  );
  return new Set([...lists[0] ?? []].filter((prompt) => lists.every((list) => list.has(prompt))));
}
