/**
 * Preloaded by the test command: the test process ends without the exit handlers of the libraries it has loaded.
 *
 * `deno test` ends while its threads, one for each test file, are ending too. libglvnd, through which OpenGL is
 * reached, frees the state of all threads when the process ends, and each thread frees its own: sometimes twice, which
 * aborts the process ("double free or corruption") after the last test. The threads of the command line wait while its
 * process ends, so this does not affect it. To be deleted when libglvnd or Deno no longer do this.
 *
 * @module
 */
if (Deno.build.os === "linux" && Deno.build.target.endsWith("-gnu")) {
  const libc = Deno.dlopen("libc.so.6", {
    dlsym: { parameters: ["pointer", "buffer"], result: "pointer" },
    on_exit: { parameters: ["pointer", "pointer"], result: "i32" },
  });
  // Handlers run in the reverse order of their registration, and those of libraries last. glibc calls this one with the
  // exit status, which is the parameter of _exit.
  const exit = libc.symbols.dlsym(null, new TextEncoder().encode("_exit\0"));
  libc.symbols.on_exit(exit, null);
}
