/** Where the server listens by default. */
export const DEFAULT_HOST = "localhost", DEFAULT_PORT = 8642;
