/**
 * How long a tick of the GPU's clock is. WebGPU promises nanoseconds, and Deno's gives the ticks of the hardware: 1 ns on
 * NVIDIA and software adapters, 10 on AMD, 83 on Intel.
 *
 * @module
 */

/** Milliseconds between the two looks at the clock. */
const APART = 60;
/** Looks are this exact: a tick that is so near to a nanosecond is one. */
const TOLERANCE = 0.1;

/** Nanoseconds a tick, by this machine's clock. Wants an idle device with timestamp-query. */
export async function nanosecondsPerTick(device: GPUDevice): Promise<number> {
  const queries = device.createQuerySet({ type: "timestamp", count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  /** An idle device looks at its clock when it is told to: waiting may take milliseconds longer. */
  const look = async (): Promise<{ ticks: bigint; ms: number }> => {
    const encoder = device.createCommandEncoder();
    encoder.beginComputePass({
      timestampWrites: { querySet: queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    }).end();
    encoder.resolveQuerySet(queries, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
    const ms = performance.now();
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const [, ticks] = new BigUint64Array(staging.getMappedRange());
    const look = { ticks: ticks!, ms };
    staging.unmap();
    return look;
  };
  try {
    await look(); // the first one is slow
    const first = await look();
    await new Promise((resolve) => setTimeout(resolve, APART));
    const second = await look();
    const tick = (second.ms - first.ms) * 1e6 / Number(second.ticks - first.ticks);
    return Math.abs(tick - 1) > TOLERANCE && Number.isFinite(tick) && tick > 0 ? tick : 1;
  } finally {
    for (const buffer of [resolved, staging]) buffer.destroy();
    queries.destroy();
  }
}
