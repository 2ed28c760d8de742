import { BRANCHES } from "../../model/vorta/branch.ts";
import { slug } from "../../tools/program/clip/slug.ts";
import { markdownTable, mean, percent, tableOf } from "../table.ts";
import type { ClipFigures } from "./clip_figures.ts";
import { type Judged, judgedScore, scoresOf } from "./judged.ts";
import type { QualityRun, SettingResult } from "./results.ts";

/**
 * The tables of a run, in Markdown.
 *
 * @param judged what the judge saw, if it has looked at the clips
 * @param timed a run whose seconds are shown. Default: the run itself
 */
export function tables({ results }: QualityRun, judged: Judged = {}, timed: QualityRun = { results }): string {
  const parts = [figuresTable(results, timed)];
  if (Object.keys(judged).length > 0) parts.push(judgedTable(results, judged));
  for (const { setting, routes } of results) {
    if (!routes) continue;
    const counts = (heads: readonly number[]) =>
      BRANCHES.map((_, branch) => heads.filter((route) => route === branch).length).join("/");
    parts.push(`${setting}: heads on full / core-set / sliding, by layer and step`);
    parts.push(markdownTable([
      ["layer", ...routes.map((_, step) => String(step + 1))],
      ...routes[0]!.map((_, layer) => [String(layer), ...routes.map((layers) => counts(layers[layer]!))]),
    ]));
  }
  return parts.join("\n\n");
}

function figuresTable(results: readonly SettingResult[], timed: QualityRun): string {
  const over = (of: (clip: ClipFigures) => number | null | undefined, decimals: number) => ({ clips }: SettingResult) =>
    mean(clips.map(of).filter((x) => typeof x === "number"), decimals);
  const shareOn = (branch: number) => ({ routes }: SettingResult) => {
    const all = routes?.flat(2);
    return all ? percent(all.filter((route) => route === branch).length / all.length) : "";
  };
  const timesOf = ({ setting }: SettingResult) => timed.results.find((result) => result.setting === setting);
  const seconds = (result: SettingResult, of: (clip: ClipFigures) => number) => {
    const clips = timesOf(result)?.clips ?? [];
    return clips.reduce((sum, clip) => sum + of(clip), 0) / clips.length;
  };
  const denoising = (result: SettingResult) => seconds(result, ({ seconds }) => seconds.denoise);
  const text = (x: number, unit = "") => Number.isFinite(x) ? `${x.toFixed(2)}${unit}` : "";
  const share = (of: (clip: ClipFigures) => number | undefined) => (result: SettingResult) => {
    const text = over(of, 5)(result);
    return text === "" ? "" : percent(Number(text));
  };
  return tableOf(results, {
    "attention": (r) => r.setting,
    "clips": (r) => String(r.clips.length),
    "density": share(({ density }) => density),
    ...results.some(({ routes }) => routes) && {
      "full": shareOn(BRANCHES.indexOf("full")),
      "core-set": shareOn(BRANCHES.indexOf("coreset")),
      "sliding": shareOn(BRANCHES.indexOf("sliding")),
    },
    "denoising, s": (r) => text(denoising(r)),
    "speed": (r) => text(denoising(results[0]!) / denoising(r), "×"),
    "with decoding, s": (r) => text(seconds(r, ({ seconds: { denoise, decode } }) => denoise + decode)),
    "PSNR, dB": over(({ psnr }) => psnr, 2),
    "SSIM": over(({ ssim }) => ssim, 4),
    "flicker": over(({ flicker }) => flicker, 3),
    "churn": share(({ churn }) => churn),
  });
}

/** The judge's scores, and how far from full attention's they may be. */
function judgedTable(results: readonly SettingResult[], judged: Judged): string {
  const seen = (setting: string) => judged[slug(setting)], full = results[0]!.setting;
  const points = (share: number) => (100 * share).toFixed(1);
  const cell = (score: string) => ({ setting }: SettingResult) => {
    const found = judgedScore(seen(setting), seen(full), score);
    if (!found) return "";
    const interval = ` (${points(found.low)} to ${points(found.high)})`;
    return `${percent(found.share)}${setting === full ? "" : interval}`;
  };
  const table = tableOf(results.filter(({ setting }) => seen(setting)), {
    "attention": (r) => r.setting,
    "clips": (r) => String(Object.keys(seen(r.setting)!).length),
    ...Object.fromEntries(scoresOf(judged).map((score) => [score, cell(score)])),
  });
  return "The judge's scores, and in points the 95 % interval of their difference to full attention's (paired " +
    `bootstrap over prompts):\n\n${table}`;
}
