import { concatenate } from "../../model/video/mp4_boxes.ts";

/** A zip archive of files that are stored as they are. Its checksums are 0, which readers of tensors do not look at. */
export function storedZip(files: Readonly<Record<string, Uint8Array>>): Uint8Array<ArrayBuffer> {
  const local: Uint8Array[] = [], central: Uint8Array[] = [];
  let offset = 0;
  for (const [path, bytes] of Object.entries(files)) {
    const name = new TextEncoder().encode(path), header = new DataView(new ArrayBuffer(30));
    header.setUint32(0, 0x04034b50, true);
    for (const at of [18, 22]) header.setUint32(at, bytes.length, true);
    header.setUint16(26, name.length, true);
    const entry = new DataView(new ArrayBuffer(46));
    entry.setUint32(0, 0x02014b50, true);
    for (const at of [20, 24]) entry.setUint32(at, bytes.length, true);
    entry.setUint16(28, name.length, true);
    entry.setUint32(42, offset, true);
    local.push(new Uint8Array(header.buffer), name, bytes);
    central.push(new Uint8Array(entry.buffer), name);
    offset += 30 + name.length + bytes.length;
  }
  const directory = concatenate(central), end = new DataView(new ArrayBuffer(22)), count = Object.keys(files).length;
  end.setUint32(0, 0x06054b50, true);
  for (const at of [8, 10]) end.setUint16(at, count, true);
  end.setUint32(12, directory.length, true);
  end.setUint32(16, offset, true);
  return concatenate([...local, directory, new Uint8Array(end.buffer)]);
}
