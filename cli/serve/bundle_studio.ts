/** The script of the studio page, made of the checkout's sources. @throws {TilereelError} if it cannot be made */
export async function bundleStudio(): Promise<Uint8Array<ArrayBuffer>> {
  // Not in the packages, which have what it makes.
  const { bundle } = await import("../../tools/program/bundle.ts");
  const path = await Deno.makeTempFile({ suffix: ".js" });
  try {
    await bundle("browser", "--output", path, "tools/studio/studio.ts");
    return await Deno.readFile(path);
  } finally {
    await Deno.remove(path);
  }
}
