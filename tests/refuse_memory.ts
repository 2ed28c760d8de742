/**
 * Devices with little memory, for tests. They refuse as wgpu and Dawn do where the driver has no memory for a buffer: an
 * out-of-memory error in the scope around `createBuffer`, and a buffer that cannot be used. As a program, the command line
 * on devices that refuse the first tensor of a name: `refuse_memory.ts NAME generate ...`.
 *
 * @module
 */
import { main } from "../cli/program.ts";

/**
 * Has a device refuse some tensors.
 *
 * @param refuse asked with the name and the bytes of each
 */
export function refuseTensors(device: GPUDevice, refuse: (name: string, bytes: number) => boolean): void {
  const createBuffer = device.createBuffer.bind(device), popErrorScope = device.popErrorScope.bind(device);
  let refuses = false;
  device.createBuffer = (descriptor) => {
    const buffer = createBuffer(descriptor);
    if ((descriptor.usage & GPUBufferUsage.STORAGE) === 0) return buffer;
    refuses = refuse(descriptor.label ?? "", descriptor.size);
    if (refuses) buffer.destroy();
    return buffer;
  };
  device.popErrorScope = async () => {
    const refused = refuses;
    return await popErrorScope() ?? (refused ? { message: "Not enough memory left." } : null);
  };
}

/** Has a device refuse tensors that exceed its memory. */
export function limitMemory(device: GPUDevice, most: number): void {
  let held = 0;
  const refused = (_name: string, bytes: number) => held + bytes > most;
  refuseTensors(device, refused);
  const createBuffer = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const counts = (descriptor.usage & GPUBufferUsage.STORAGE) !== 0 && !refused("", descriptor.size);
    const buffer = createBuffer(descriptor), destroy = buffer.destroy.bind(buffer);
    if (!counts) return buffer;
    held += descriptor.size;
    let live = true;
    buffer.destroy = () => {
      if (live) held -= descriptor.size;
      live = false;
      destroy();
    };
    return buffer;
  };
}

if (import.meta.main) {
  const [refused, ...args] = Deno.args;
  let left = 1;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    refuseTensors(device, (name) => name === refused && left-- > 0);
    return device;
  };
  Deno.exit(await main(args));
}
