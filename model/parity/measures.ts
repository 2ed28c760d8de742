/**
 * How far an output is from its reference.
 *
 * @module
 */

export { relativeError } from "../../gpu/relative_error.ts";
