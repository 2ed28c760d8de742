import { assertEquals } from "@std/assert";
import type { Gpu } from "../../gpu/gpu.ts";
import { LastingPipeline } from "../../model/lasting_pipeline.ts";
import type { VideoPipeline } from "../../model/pipeline.ts";

Deno.test("a pipeline stays open until its GPU is lost, and is then opened again", async () => {
  const told: string[] = [], options = { onProgress: () => {} };
  let works = true, opened = 0;
  const gpu = { recover: () => Promise.resolve(works) } as Gpu;
  {
    using lasting = new LastingPipeline(() => {
      const number = ++opened;
      told.push(`open ${number}`);
      const close = () => void told.push(`close ${number}`);
      return Promise.resolve({ gpu, pipeline: {} as VideoPipeline, [Symbol.dispose]: close });
    });
    await lasting.recover();
    const first = await lasting.open(options);
    await lasting.recover();
    assertEquals(await lasting.open(options), first);
    works = false;
    await lasting.recover();
    assertEquals([lasting.current, told], [undefined, ["open 1", "close 1"]]);
    await lasting.open(options);
  }
  assertEquals(told, ["open 1", "close 1", "open 2", "close 2"]);
});
