import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { requestOptions } from "../../../tools/program/clip/batch_options.ts";
import type { Clip } from "../../../cli/generate/clip_plan.ts";
import { workerUrl } from "../../../model/embedded.ts";
import { overall } from "../../../model/progress.ts";
import { checkPrompt, seedOf } from "../../../tools/program/clip/clip_settings.ts";
import { readValues } from "../../../tools/program/clip/read_values.ts";
import { inTempDir } from "../../process.ts";
import type { Answer } from "./render_worker.ts";

/** A clip as a server has it from a request. */
function clipOf(request: Readonly<Record<string, unknown>>, out: string): Clip {
  const { prompt, ...values } = readValues(request, requestOptions, "request");
  return { prompt: checkPrompt(prompt), seed: seedOf(values), values, out, taken: "replace" };
}

Deno.test("a worker makes clips while this thread goes on, and one can be cancelled", () =>
  inTempDir(async (dir) => {
    const worker = new Worker(workerUrl("tests/cli/generate/render_worker.ts"), { type: "module" });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    /** Makes a clip, and cancels it after a number of steps. */
    const make = async (clip: Clip, cancelled = Infinity) => {
      const { promise, resolve } = Promise.withResolvers<Answer>(), told: Answer[] = [];
      worker.onmessage = ({ data }: MessageEvent<Answer>) => {
        told.push(data);
        if ("preview" in data && data.preview + 1 === cancelled) worker.postMessage("cancel");
        if ("bytes" in data || "error" in data) resolve(data);
      };
      worker.postMessage(clip);
      const end = await promise, progress = told.flatMap((answer) => "progress" in answer ? [answer.progress] : []);
      return {
        end,
        last: Math.max(0, ...progress.map((told) => overall(told) ?? 0)),
        previews: told.filter((answer) => "preview" in answer).length,
      };
    };
    try {
      const request = { prompt: "a red circle", size: "64x64", frames: 5, steps: 5, guidance: 1, attention: "veda" };
      const gif = join(dir, "a.gif"), made = await make(clipOf(request, gif));
      assertEquals(made, { end: { bytes: (await Deno.stat(gif)).size }, last: 1, previews: 5 });
      assert(ticks > 5, `the timer came ${ticks} times`);
      const stopped = await make(clipOf({ ...request, steps: 50 }, join(dir, "b.mp4")), 1);
      assertEquals([stopped.end, stopped.previews < 10], [{ error: "cancelled" }, true]);
      const again = await make(clipOf(request, join(dir, "frames/")));
      assertEquals([again.last, again.previews], [1, 5]);
      const refused = await make(clipOf({ ...request, attention: "full", tau: 0.5 }, join(dir, "c.mp4")));
      assert("error" in refused.end && refused.end.error.startsWith("--tau has no effect with --attention full"));
      assertEquals(refused.last, 0);
      assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name).sort(), ["a.gif", "frames"]);
    } finally {
      clearInterval(timer);
      worker.terminate();
    }
  }));
