import { assertEquals } from "@std/assert";
import { openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import type { ClipValues } from "../../../tools/program/clip/clip_options.ts";
import { clipSettings } from "../../../tools/program/clip/clip_settings.ts";
import { MODEL } from "../../process.ts";

Deno.test("a clip has the flow shift of its size, unless one is given or a preset has one", async () => {
  const { generation } = await openModelFolder(MODEL);
  const shift = (values: ClipValues) => clipSettings({ prompt: "a red circle", seed: 0, values }, generation).flowShift;
  const large = { size: { width: 512, height: 512 }, frames: 61 };
  assertEquals(shift(large), 5);
  assertEquals(shift({ ...large, "flow-shift": 7 }), 7);
  assertEquals(shift({ ...large, preset: "demo" }), 3);
  assertEquals(shift({}), undefined);
});
