/*
 * Ends a process at one of its calls that change files under a folder: just before the call, or in the middle of a
 * write. Preloaded into the process. KILL_UNDER names the folder, KILL_COUNT a file of four bytes in which the calls are
 * counted, and KILL_AT the number of the call to end at, from 1; with 0, none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define MOST_FILES 65536
static char followed[MOST_FILES];
static const char *under;
static int at;
static int *counted;

#define REAL(name) ((__typeof__(&name)) real(#name))

static void *real(const char *name) {
  return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void start(void) {
  under = getenv("KILL_UNDER");
  if (!under || !getenv("KILL_COUNT")) return;
  at = atoi(getenv("KILL_AT"));
  int fd = REAL(open64)(getenv("KILL_COUNT"), O_RDWR);
  counted = mmap(NULL, sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* Counts a call. Returns whether the process is to end at it. */
static int point(void) {
  return counted && __atomic_add_fetch(counted, 1, __ATOMIC_SEQ_CST) == at;
}

static void end(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static int is_under(const char *path) {
  return under && path && strncmp(path, under, strlen(under)) == 0;
}

static void follow(int fd, int yes) {
  if (fd >= 0 && fd < MOST_FILES) followed[fd] = yes;
}

static int is_followed(int fd) {
  return fd >= 0 && fd < MOST_FILES && followed[fd];
}

#define OPEN(name)                                                                 \
  int name(const char *path, int flags, ...) {                                     \
    va_list rest;                                                                  \
    va_start(rest, flags);                                                         \
    mode_t mode = va_arg(rest, mode_t);                                            \
    va_end(rest);                                                                  \
    int writes = is_under(path) && (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0;   \
    if (writes && point()) end();                                                  \
    int fd = REAL(name)(path, flags, mode);                                        \
    follow(fd, writes);                                                            \
    return fd;                                                                     \
  }
OPEN(open)
OPEN(open64)

int close(int fd) {
  follow(fd, 0);
  return REAL(close)(fd);
}

ssize_t write(int fd, const void *bytes, size_t length) {
  if (is_followed(fd) && point()) {
    REAL(write)(fd, bytes, length / 2);
    end();
  }
  return REAL(write)(fd, bytes, length);
}

#define OF_FILE(name, parameters, ...)            \
  int name parameters {                           \
    if (is_followed(fd) && point()) end();        \
    return REAL(name)(__VA_ARGS__);               \
  }
OF_FILE(fsync, (int fd), fd)
OF_FILE(fdatasync, (int fd), fd)
OF_FILE(ftruncate64, (int fd, off64_t length), fd, length)

#define OF_PATH(name, parameters, ...)            \
  int name parameters {                           \
    if (is_under(path) && point()) end();         \
    return REAL(name)(__VA_ARGS__);               \
  }
OF_PATH(rename, (const char *path, const char *to), path, to)
OF_PATH(mkdir, (const char *path, mode_t mode), path, mode)
OF_PATH(unlink, (const char *path), path)
OF_PATH(rmdir, (const char *path), path)
