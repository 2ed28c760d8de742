/**
 * Reads a folder into memory.
 *
 * @module
 */

/** All files in a folder and its folders, by their paths in it. */
export async function filesIn(folder: string, inside = ""): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  for await (const { name, isDirectory } of Deno.readDir(`${folder}/${inside}`)) {
    const path = `${inside}${name}`;
    if (isDirectory) Object.assign(files, await filesIn(folder, `${path}/`));
    else files[path] = await Deno.readFile(`${folder}/${path}`);
  }
  return files;
}
