/**
 * What a page would load: bundled for the browser by browser_bundle_test.ts.
 *
 * @module
 */
export * from "../../gpu/mod.ts";
export * from "../../model/mod.ts";
