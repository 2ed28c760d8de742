/**
 * Tests of the demo model's pipeline.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { embeddedModelDir } from "../model/embedded.ts";
import { type LoadOptions, VideoPipeline } from "../model/pipeline.ts";
import { testOnGpu } from "./gpu.ts";

/** Loads the demo model on a poisoned device and closes both in the end. */
export function testPipeline(
  name: string,
  run: (pipeline: VideoPipeline, gpu: Gpu) => Promise<void>,
  options: Omit<LoadOptions, "gpu"> = {},
) {
  testOnGpu(name, async (gpu) => {
    const pipeline = await VideoPipeline.load(embeddedModelDir(), { ...options, gpu });
    try {
      await run(pipeline, gpu);
    } finally {
      pipeline.close();
    }
  });
}
