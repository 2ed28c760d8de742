/**
 * The files of a comparison's report.
 *
 * @module
 */
import { join } from "node:path";

/** In the folder of a comparison: the page, and the numbers. */
export const reportFiles = (folder: string) => ({
  page: join(folder, "report.html"),
  table: join(folder, "table.json"),
});
