import { randomUniform } from "../../model/training/random.ts";

/** For each score of the judge, whether each thing that a prompt asks for is there. */
export type Marks = Readonly<Record<string, readonly boolean[]>>;

/** What the judge saw, as tools/demo/judge_settings.py writes it: by setting's folder, then by prompt. */
export type Judged = Readonly<Record<string, Readonly<Record<string, Marks>>>>;

/** A score of a setting, and how it differs from full attention's on the same prompts. */
export interface JudgedScore {
  readonly share: number;
  readonly difference: number;
  /** The difference's 95 % interval, by paired bootstrap over prompts. */
  readonly low: number;
  readonly high: number;
}

const DRAWS = 2000;

/** The scores that there are, in the judge's order. */
export function scoresOf(judged: Judged): string[] {
  const marks = Object.values(judged).flatMap((clips) => Object.values(clips));
  return [...new Set(marks.flatMap((scores) => Object.keys(scores)))];
}

/** A setting's score beside that of full attention, over the prompts that both have; undefined if there are none. */
export function judgedScore(
  ours: Readonly<Record<string, Marks>> = {},
  full: Readonly<Record<string, Marks>> = {},
  score: string,
): JudgedScore | undefined {
  const pairs = Object.keys(ours).flatMap((prompt) => {
    const a = ours[prompt]![score] ?? [], b = full[prompt]?.[score] ?? [];
    return a.length > 0 && b.length > 0 ? [{ ours: a, full: b }] : [];
  });
  if (pairs.length === 0) return undefined;
  const share = (of: typeof pairs, side: "ours" | "full") => {
    const all = of.flatMap((pair) => pair[side]);
    return all.filter(Boolean).length / all.length;
  };
  const differenceOf = (of: typeof pairs) => share(of, "ours") - share(of, "full");
  const differences = Array.from(
    { length: DRAWS },
    (_, draw) => differenceOf(pairs.map((_, i) => pairs[Math.floor(randomUniform(draw, i) * pairs.length)]!)),
  ).sort((a, b) => a - b);
  return {
    share: share(pairs, "ours"),
    difference: differenceOf(pairs),
    low: differences[Math.floor(0.025 * DRAWS)]!,
    high: differences[Math.ceil(0.975 * DRAWS) - 1]!,
  };
}
