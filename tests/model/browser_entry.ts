/**
 * What a page imports, in its worker: bundled for the browser by browser_bundle_test.ts, and used by page.js.
 *
 * @module
 */
export * from "../../gpu/mod.ts";
export * from "../../model/mod.ts";
export { clipSettings } from "../../tools/program/clip/clip_settings.ts";
export { clipOptions } from "../../tools/program/clip/clip_options.ts";
export { readValues } from "../../tools/program/clip/read_values.ts";
export { readyMethods } from "../../tools/program/clip/method_options.ts";
export { plannedRecord } from "../../tools/program/clip/record.ts";
