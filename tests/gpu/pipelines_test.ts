/** What is compiled ahead, by a device that compiles nothing. */
import { assert, assertEquals } from "@std/assert";
import { dryGpu } from "../../gpu/device/dry.ts";
import { type KernelSource, write } from "../../gpu/kernel.ts";
import { Pipelines } from "../../gpu/pipelines.ts";

const KERNELS = Array.from({ length: 9 }, (_, i): KernelSource => ({
  ...{ name: `kernel ${i}`, buffers: { y: write("f32") }, params: {}, workgroupSize: [1, 1, 1], body: "y[0] = 1.0;" },
}));

/** A device whose driver refuses a kernel, and the kernels in the order in which they are compiled. */
function device(refused?: string) {
  const { device, settings: { dialect } } = dryGpu();
  const scopes: { readonly filter: GPUErrorFilter; error?: GPUError }[] = [], uncaptured: string[] = [];
  const here: string[] = [], there: string[] = [];
  device.pushErrorScope = (filter) => void scopes.push({ filter });
  // The result arrives in a later turn, as Dawn's does.
  device.popErrorScope = () => {
    const error = scopes.pop()!.error ?? null;
    return new Promise((resolve) => setTimeout(resolve, 0, error));
  };
  const { createComputePipeline } = device;
  device.createComputePipeline = (descriptor) => {
    here.push(descriptor.label!);
    if (refused !== undefined && descriptor.label === refused) {
      const scope = scopes.findLast(({ filter }) => filter === "internal");
      if (scope) scope.error = { message: "refused" };
      else uncaptured.push(refused);
    }
    return createComputePipeline(descriptor);
  };
  device.createComputePipelineAsync = (descriptor) => {
    there.push(descriptor.label!);
    return descriptor.label === refused
      ? Promise.reject(new Error("refused"))
      : Promise.resolve(createComputePipeline(descriptor));
  };
  const pipelines = new Pipelines(device, dialect, device.createBuffer({ size: 16, usage: 0 }));
  return { pipelines, scopes, uncaptured, here, there };
}

Deno.test("a kernel that the driver refuses is left out, whoever compiles it, and nobody is told", async () => {
  const others = device();
  await others.pipelines.compileAhead(KERNELS, true);
  assertEquals([others.here.length, others.there.length], [3, 6]);
  for (const refused of [others.here[1]!, others.there[1]!]) {
    const { pipelines, scopes, uncaptured, here } = device(refused);
    await pipelines.compileAhead(KERNELS, true);
    assertEquals([scopes, uncaptured], [[], []]);
    // Whoever needs it is told then.
    here.length = 0;
    for (const kernel of KERNELS) pipelines.get(kernel);
    assertEquals([here, uncaptured], [[refused], [refused]]);
  }
});

Deno.test("signals and messages are heard between the kernels that the waiting thread compiles", async () => {
  const { pipelines, here, there } = device(), heard: number[] = [];
  const timer = setInterval(() => heard.push(here.length), 0);
  await pipelines.compileAhead(KERNELS, true);
  clearInterval(timer);
  assert(heard.includes(1) && heard.includes(2), heard.join());
  // The device's own threads were given theirs before.
  assertEquals(there.length, 6);
});
