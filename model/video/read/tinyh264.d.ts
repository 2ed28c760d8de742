/** The package has no types of its own. */
declare function tinyH264(): Promise<unknown>;
export default tinyH264;
