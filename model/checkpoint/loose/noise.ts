/** Which of two transformers a file is, by its name. */
export type Noise = "high" | "low";

const NOISE = /(high|low)[-_. ]?noise/i;

/** The noise that a path names; undefined if it names none. */
export function noiseIn(path: string): Noise | undefined {
  return NOISE.exec(path)?.[1]?.toLowerCase() as Noise | undefined;
}

/** What a path has in common with that of the other transformer. */
export function withoutNoise(path: string): string {
  return path.replace(NOISE, "noise").toLowerCase();
}
