/**
 * Copies of the demo model with something wrong in them.
 *
 * @module
 */
import { assert } from "@std/assert";
import { dirname, join } from "node:path";
import { listFiles, MODEL } from "./process.ts";

/** A model folder that may be changed: what is not changed is a link to the demo model's file. */
export class BrokenModel {
  private constructor(readonly path: string) {}

  /** Makes the folder `path`. */
  static async make(path: string): Promise<BrokenModel> {
    for (const name of listFiles(MODEL)) {
      if (name.endsWith("/")) await Deno.mkdir(join(path, name), { recursive: true });
    }
    for (const name of listFiles(MODEL)) {
      if (!name.endsWith("/")) await Deno.symlink(join(MODEL, name), join(path, name));
    }
    return new BrokenModel(path);
  }

  /** Takes a file or folder away. */
  async remove(name: string): Promise<this> {
    await Deno.remove(join(this.path, name), { recursive: true });
    return this;
  }

  /** Puts other bytes in a file's place. */
  async replace(name: string, change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array): Promise<this> {
    const path = join(this.path, name);
    const changed = change(await Deno.readFile(path));
    await Deno.remove(path);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeFile(path, changed);
    return this;
  }

  /** Sets keys of a JSON file. */
  async set(name: string, keys: Record<string, unknown>): Promise<this> {
    return await this.replace(name, (bytes) => {
      const object = JSON.parse(new TextDecoder().decode(bytes));
      return new TextEncoder().encode(JSON.stringify({ ...object, ...keys }));
    });
  }

  /** Changes a tensor's bytes. */
  async bytes(name: string, tensor: string, change: (bytes: Uint8Array) => void): Promise<this> {
    return await this.replace(name, (file) => {
      const length = Number(new DataView(file.buffer).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
      const [begin, end] = header[tensor].data_offsets;
      change(file.subarray(8 + length + begin, 8 + length + end));
      return file;
    });
  }

  /** Changes a tensor's entry in the header of a safetensors file; its bytes stay. */
  async tensor(name: string, tensor: string, change: (entry: { dtype: string; shape: number[] }) => void) {
    return await this.replace(name, (bytes) => {
      const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
      assert(header[tensor], `${name} has no tensor ${tensor}`);
      change(header[tensor]);
      const json = new TextEncoder().encode(JSON.stringify(header));
      const changed = new Uint8Array(8 + json.length + bytes.length - 8 - length);
      new DataView(changed.buffer).setBigUint64(0, BigInt(json.length), true);
      changed.set(json, 8);
      changed.set(bytes.subarray(8 + length), 8 + json.length);
      return changed;
    });
  }
}
