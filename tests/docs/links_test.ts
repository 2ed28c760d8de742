import { dirname, join } from "node:path";
import { assertEquals } from "@std/assert";
import { listFiles, ROOT } from "../process.ts";

/** The anchors of a page's headings, as GitHub makes them. */
function anchors(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );
}

Deno.test("links between pages lead to files and headings that exist", async () => {
  const pages = [
    "README.md",
    ...listFiles(join(ROOT, "docs")).filter((n) => n.endsWith(".md")).map((n) => `docs/${n}`),
  ];
  const broken: string[] = [];
  for (const page of pages) {
    for (const [, link] of (await Deno.readTextFile(join(ROOT, page))).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link!)) continue;
      const [path, anchor] = link!.split("#") as [string, string?], target = join(ROOT, dirname(page), path);
      const there = path === "" ? join(ROOT, page) : target;
      const exists = await Deno.stat(there).then(() => true, () => false);
      const found = exists && (anchor === undefined || anchors(await Deno.readTextFile(there)).includes(anchor));
      if (!found) broken.push(`${page}: ${link}`);
    }
  }
  assertEquals(broken, []);
});
