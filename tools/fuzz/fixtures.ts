import { join } from "node:path";

const ROOT = join(import.meta.dirname!, "../..");

/** The bytes of a file of the checkout. */
export function fixture(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return Deno.readFile(join(ROOT, path));
}

/** Files by their paths in a folder. */
export type Files = Record<string, Uint8Array<ArrayBuffer>>;

/** All files of a folder of the checkout, by their paths in it. */
export async function fixtureFolder(folder: string): Promise<Files> {
  const files: Files = {};
  for await (const { name, isDirectory } of Deno.readDir(join(ROOT, folder))) {
    if (!isDirectory) files[name] = await fixture(`${folder}/${name}`);
    else {for (const [inner, bytes] of Object.entries(await fixtureFolder(`${folder}/${name}`))) {
        files[`${name}/${inner}`] = bytes;
      }}
  }
  return files;
}
