/** The buffers that are on GPUs now. */
export interface LiveBuffers {
  count: number;
  bytes: number;
}

/** Counts the buffers of all devices that are opened from now on. */
export function countBuffers(): Readonly<LiveBuffers> {
  const live: LiveBuffers = { count: 0, bytes: 0 }, { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor), createBuffer = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      const buffer = createBuffer(descriptor), destroy = buffer.destroy.bind(buffer);
      let isLive = true;
      live.count++;
      live.bytes += descriptor.size;
      buffer.destroy = () => {
        if (isLive) {
          live.count--;
          live.bytes -= descriptor.size;
        }
        isLive = false;
        destroy();
      };
      return buffer;
    };
    return device;
  };
  return live;
}
