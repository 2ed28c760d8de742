/** The flow shift of clips that repeat one of the demo model's at another size. It has 5 for 512x512 and 3 for others. */
import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { planRun } from "../../../cli/generate/plan.ts";
import type { GenerateValues } from "../../../cli/commands/generate.ts";
import { writeVideo } from "../../../model/video/write_video.ts";
import { inTempDir } from "../../process.ts";

const SMALL = { width: 256, height: 256, frames: 29, flowShift: 3 };
const LARGE = { size: { width: 512, height: 512 }, frames: 61 };
const OTHERS = "the flow shift is 5, which the model has for 512x512 with 61 frames, and not 3 as in clip.png: " +
  "--flow-shift 3 keeps that";

/** @returns the flow shifts of the clips that repeat one with such a record, and the notes on them */
async function planned(dir: string, record: Readonly<Record<string, unknown>>, given: GenerateValues) {
  const file = join(dir, "clip.png"), video = { width: 16, height: 16, frames: 1, fps: 1, data: new Uint8Array(768) };
  const made = { version: "1", prompt: "a cat", seed: 7, steps: 4, attention: "full", model: "embedded", ...record };
  await writeVideo(file, video, { record: made });
  const { clips, notes } = await planRun({ like: file, out: join(dir, "b.png"), ...given }, undefined);
  return [clips.map(({ record }) => record.flowShift), notes.map((note) => note.replaceAll(`${dir}/`, ""))];
}

Deno.test("--like with another size: the model's flow shift for that, if the clip had the model's for its own", () =>
  inTempDir(async (dir) => {
    const at = (record: Readonly<Record<string, unknown>>, given: GenerateValues) =>
      planned(dir, { ...SMALL, ...record }, given);
    assertEquals(await at({}, {}), [[3], []]);
    assertEquals(await at({}, LARGE), [[5], [OTHERS]]);
    assertEquals(await at({}, { size: { width: 128, height: 128 } }), [[3], []]);
    const large = { width: 512, height: 512, frames: 61 };
    const [, notes] = await at({ ...large, flowShift: 5 }, { size: { width: 256, height: 256 }, frames: 29 });
    assertEquals(notes, [
      OTHERS.replaceAll("5,", "3,").replace("512x512 with 61", "256x256 with 29")
        .replace("not 3", "not 5").replace("--flow-shift 3", "--flow-shift 5"),
    ]);
    // One that somebody asked for stays, and so does that of a clip whose model had none for the size then.
    const kept = "the flow shift is 7, as in clip.png, and not 5, which the model has for 512x512 with 61 frames: " +
      "--flow-shift 5 takes that";
    assertEquals(await at({ flowShift: 7 }, LARGE), [[7], [kept]]);
    assertEquals(await at({ flowShift: 7 }, {}), [[7], []]);
    assertEquals(await at({ ...large, flowShift: 3 }, {}), [[3], []]);
    // What is given goes first, and a preset's shift belongs to its levels.
    assertEquals(await at({}, { ...LARGE, "flow-shift": 3 }), [[3], []]);
    assertEquals(await at({}, { ...LARGE, preset: "demo" }), [[3], []]);
    assertEquals(await at({ sigmas: [1, 0.75, 0.5, 0.25] }, LARGE), [[3], []]);
    assertEquals(await at({ flowShift: undefined }, LARGE), [[5], []]);
  }));

Deno.test("--like with prompts of several sizes: each clip has the flow shift of its size, and a note says so once", () =>
  inTempDir(async (dir) => {
    const large = { size: "512x512", frames: 61 };
    const lines = [{ prompt: "a" }, { prompt: "b", ...large }, { prompt: "c", ...large }, {
      prompt: "d",
      ...large,
      flow_shift: 9,
    }];
    const prompts = join(dir, "p.jsonl");
    await Deno.writeTextFile(prompts, lines.map((line) => JSON.stringify(line)).join("\n"));
    assertEquals(await planned(dir, SMALL, { prompts, out: join(dir, "clips") }), [[3, 5, 5, 9], [OTHERS]]);
  }));
