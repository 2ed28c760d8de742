/*
 * Ends a process at one of its calls that change files under a folder: just before the call, or in the middle of a
 * write. Preloaded into the process. KILL_UNDER names the folder, KILL_AT the number of the point to end at, from 1
 * (with 0, none), and KILL_COUNT a file of two numbers: how many points there were, and how many files got another name
 * while something written to them was not yet on the disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Open files that are written, and open folders, by their numbers. */
#define MOST_FILES 65536
enum { OTHER, WRITTEN, FOLDER };
static char followed[MOST_FILES];
/* Files with something written that is not on the disk, by their numbers in the file system. */
#define MOST_UNSYNCED 4096
static ino_t unsynced[MOST_UNSYNCED];
static pthread_mutex_t unsynced_lock = PTHREAD_MUTEX_INITIALIZER;
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
  counted = mmap(NULL, 2 * sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* Counts a point. Returns whether the process is to end at it. */
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

static int followed_as(int fd) {
  return fd >= 0 && fd < MOST_FILES ? followed[fd] : OTHER;
}

static void follow(int fd, int as) {
  if (fd >= 0 && fd < MOST_FILES) followed[fd] = as;
}

/* Whether a path, from an open folder on, is under the folder. */
static int is_under_at(int folder, const char *path) {
  return is_under(path) || (path && path[0] != '/' && followed_as(folder) == FOLDER);
}

static ino_t number_of(int fd) {
  struct stat file;
  return fstat(fd, &file) == 0 ? file.st_ino : 0;
}

/* Finds a file that is not on the disk, puts it there or removes it. */
static int mark(ino_t file, int is_unsynced) {
  int found = 0, room = -1;
  pthread_mutex_lock(&unsynced_lock);
  for (int i = 0; i < MOST_UNSYNCED; i++) {
    if (unsynced[i] == file) {
      found = 1;
      if (is_unsynced == 0) unsynced[i] = 0;
    } else if (unsynced[i] == 0 && room < 0) room = i;
  }
  if (is_unsynced == 1 && !found && room >= 0) unsynced[room] = file;
  pthread_mutex_unlock(&unsynced_lock);
  return found;
}

static int count_unsynced(const char *path, const struct stat *file, int type, struct FTW *walk) {
  (void) path, (void) walk;
  if (type == FTW_F && mark(file->st_ino, -1)) __atomic_add_fetch(counted + 1, 1, __ATOMIC_SEQ_CST);
  return 0;
}

#define OPENED(folder)                                                             \
    va_list rest;                                                                  \
    va_start(rest, flags);                                                         \
    mode_t mode = va_arg(rest, mode_t);                                            \
    va_end(rest);                                                                  \
    int inside = is_under_at(folder, path);                                        \
    int writes = inside && (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0;           \
    if (writes && point()) end();

#define FOLLOWED                                                                   \
    follow(fd, writes ? WRITTEN : inside && (flags & O_DIRECTORY) ? FOLDER : OTHER); \
    return fd;

#define OPEN(name)                                                                 \
  int name(const char *path, int flags, ...) {                                     \
    OPENED(AT_FDCWD)                                                               \
    int fd = REAL(name)(path, flags, mode);                                        \
    FOLLOWED                                                                       \
  }
OPEN(open)
OPEN(open64)

#define OPEN_AT(name)                                                              \
  int name(int folder, const char *path, int flags, ...) {                         \
    OPENED(folder)                                                                 \
    int fd = REAL(name)(folder, path, flags, mode);                                \
    FOLLOWED                                                                       \
  }
OPEN_AT(openat)
OPEN_AT(openat64)

int close(int fd) {
  follow(fd, OTHER);
  return REAL(close)(fd);
}

/* Deno waits for the disk with a copy of a file's number. */
int fcntl(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  int result = REAL(fcntl)(fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) follow(result, followed_as(fd));
  return result;
}

/* A write has two points: before it, and in the middle of it. */
#define WRITE(name, parameters, half, ...)                                         \
  ssize_t name parameters {                                                        \
    if (followed_as(fd) == WRITTEN) {                                              \
      if (point()) end();                                                          \
      mark(number_of(fd), 1);                                                      \
      if (point()) {                                                               \
        half;                                                                      \
        end();                                                                     \
      }                                                                            \
    }                                                                              \
    return REAL(name)(__VA_ARGS__);                                                \
  }
WRITE(write, (int fd, const void *bytes, size_t length), REAL(write)(fd, bytes, length / 2), fd, bytes, length)
WRITE(pwrite64, (int fd, const void *bytes, size_t length, off64_t to), REAL(pwrite64)(fd, bytes, length / 2, to), fd,
      bytes, length, to)
WRITE(writev, (int fd, const struct iovec *parts, int count), REAL(writev)(fd, parts, count / 2), fd, parts, count)

#define SYNC(name)                                                                 \
  int name(int fd) {                                                               \
    if (followed_as(fd) == WRITTEN && point()) end();                              \
    int result = REAL(name)(fd);                                                   \
    if (result == 0 && followed_as(fd) == WRITTEN) mark(number_of(fd), 0);         \
    return result;                                                                 \
  }
SYNC(fsync)
SYNC(fdatasync)

#define CALL(is_inside, name, parameters, ...)                                     \
  int name parameters {                                                            \
    if (is_inside && point()) end();                                               \
    return REAL(name)(__VA_ARGS__);                                                \
  }
CALL(followed_as(fd) == WRITTEN, ftruncate64, (int fd, off64_t length), fd, length)
CALL(is_under(path), mkdir, (const char *path, mode_t mode), path, mode)
CALL(is_under(path), unlink, (const char *path), path)
CALL(is_under(path), rmdir, (const char *path), path)
CALL(is_under_at(folder, path), unlinkat, (int folder, const char *path, int flags), folder, path, flags)

int rename(const char *path, const char *to) {
  if (is_under(path)) {
    if (point()) end();
    if (counted) nftw(path, count_unsynced, 16, FTW_PHYS);
  }
  return REAL(rename)(path, to);
}
