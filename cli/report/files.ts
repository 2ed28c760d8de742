/**
 * The files of a comparison's report.
 *
 * @module
 */
import { join } from "node:path";

/** The paths of the page and of the numbers in the folder of a comparison. */
export const reportFiles = (folder: string) => ({
  page: join(folder, "report.html"),
  table: join(folder, "table.json"),
});
