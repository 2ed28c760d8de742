/** Milliseconds between two readings of the clock. */
const APART = 60;

/** A reading of the GPU's clock, taken between two moments of this machine's clock, in milliseconds. */
interface Look {
  readonly ticks: bigint;
  readonly before: number;
  readonly after: number;
}

/**
 * Measures the length of a tick of the GPU's clock with this machine's clock. WebGPU promises nanoseconds, but Deno
 * returns the ticks of the hardware: 1 ns on NVIDIA and software adapters, 10 ns on AMD, 83 ns on Intel. The device must
 * be idle and have timestamp-query.
 */
export async function nanosecondsPerTick(device: GPUDevice): Promise<number> {
  const queries = device.createQuerySet({ type: "timestamp", count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const look = async (): Promise<Look> => {
    const encoder = device.createCommandEncoder();
    encoder.beginComputePass({
      timestampWrites: { querySet: queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    }).end();
    encoder.resolveQuerySet(queries, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
    const before = performance.now();
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const after = performance.now();
    const [, ticks] = new BigUint64Array(staging.getMappedRange());
    staging.unmap();
    return { ticks: ticks!, before, after };
  };
  try {
    await look(); // the first one is slow
    const first = await look();
    await new Promise((resolve) => setTimeout(resolve, APART));
    return tickBetween(first, await look());
  } finally {
    for (const buffer of [resolved, staging]) buffer.destroy();
    queries.destroy();
  }
}

/**
 * Assumes one nanosecond, unless the readings contradict it. Otherwise the earlier moments are trusted, because an idle
 * device reads its clock at once.
 */
export function tickBetween(first: Look, second: Look): number {
  const ticks = Number(second.ticks - first.ticks);
  const least = (second.before - first.after) * 1e6, most = (second.after - first.before) * 1e6;
  if (ticks <= 0 || least <= ticks && ticks <= most) return 1;
  return (second.before - first.before) * 1e6 / ticks;
}
