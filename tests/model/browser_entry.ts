/**
 * What a page would load: bundled for the browser by browser_bundle_test.ts.
 *
 * @module
 */
export * from "../../gpu/mod.ts";
export * from "../../model/mod.ts";
export { openModelFolder } from "../../model/checkpoint/model_folder.ts";
export { modelIdentity } from "../../model/identity/model_identity.ts";
export { readyAttention } from "../../tools/program/clip/attention_options.ts";
