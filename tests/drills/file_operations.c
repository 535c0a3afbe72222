/* Sees every change that a program makes to files below a folder, whichever library makes it; loaded with LD_PRELOAD.

   Each operation is done, then written to a pipe as a line, and the program's next one waits for a byte in answer: in
   between the folder is as a SIGKILL would leave it. A write is done in two halves, since a kill may cut it. Or, instead,
   operations fail as on a full disk or on one that cannot be written to. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static int request = -1, answer = -1, failure = 0;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Watches `path`: reports to `to` and waits for `from`, or fails with `error`; an empty path ends it. */
void watch_files(const char *path, int to, int from, int error) {
  snprintf(root, sizeof root, "%s", path);
  request = to;
  answer = from;
  failure = error;
}

static int inside(int folder, const char *path) {
  char full[2 * PATH_MAX], link[64];
  if (!root[0]) return 0;
  if (path && path[0] == '/') return !strncmp(path, root, strlen(root));
  if (folder == AT_FDCWD) {
    if (!getcwd(full, PATH_MAX)) return 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t size = readlink(link, full, PATH_MAX);
    if (size < 0) return 0;
    full[size] = 0;
  }
  return !strncmp(full, root, strlen(root));
}

/* A full disk still lets files go. */
static int refused(int takes_room) {
  if (!failure || (failure == ENOSPC && !takes_room)) return 0;
  errno = failure;
  return 1;
}

static void report(const char *what, const char *path) {
  char line[PATH_MAX + 64];
  int before = errno;
  if (request < 0) return;
  int size = snprintf(line, sizeof line, "%s %s\n", what, path ? path : "");
  syscall(SYS_write, request, line, size);
  while (syscall(SYS_read, answer, line, 1) < 0 && errno == EINTR) {}
  errno = before;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define DONE(room, what, path, call)            \
  {                                             \
    if (refused(room)) return -1;               \
    pthread_mutex_lock(&lock);                  \
    __typeof__(call) result = call;             \
    report(what, path);                         \
    pthread_mutex_unlock(&lock);                \
    return result;                              \
  }

#define OPEN(name, parameter, folder, given)                                               \
  int name(parameter const char *path, int flags, ...) {                                   \
    va_list more;                                                                          \
    va_start(more, flags);                                                                 \
    int mode = flags & O_CREAT ? va_arg(more, int) : 0;                                    \
    va_end(more);                                                                          \
    if (!(flags & (O_CREAT | O_TRUNC)) || !inside(folder, path)) return REAL(name) given;  \
    DONE(1, "open", path, REAL(name) given)                                                \
  }
#define FOLDER int folder,
OPEN(open, , AT_FDCWD, (path, flags, mode))
OPEN(open64, , AT_FDCWD, (path, flags, mode))
OPEN(openat, FOLDER, folder, (folder, path, flags, mode))
OPEN(openat64, FOLDER, folder, (folder, path, flags, mode))

/* `first` writes the first half, `rest` what is left after `half` bytes. */
#define WRITE(name, offset, first, rest)                             \
  ssize_t name(int file, const void *bytes, size_t size offset) {    \
    ssize_t half = 0, result;                                        \
    if (!inside(file, NULL)) return REAL(name) rest;                 \
    if (refused(1)) return -1;                                       \
    pthread_mutex_lock(&lock);                                       \
    if (size > 1 && (half = REAL(name) first) < 0) half = 0;         \
    if (half) report("half a " #name, NULL);                         \
    result = REAL(name) rest;                                        \
    report(#name, NULL);                                             \
    pthread_mutex_unlock(&lock);                                     \
    return result < 0 ? result : result + half;                      \
  }
#define LEFT (const char *)bytes + half, size - half
#define OFFSET , off_t at
#define OFFSET64 , off64_t at
WRITE(write, , (file, bytes, size / 2), (file, LEFT))
WRITE(pwrite, OFFSET, (file, bytes, size / 2, at), (file, LEFT, at + half))
WRITE(pwrite64, OFFSET64, (file, bytes, size / 2, at), (file, LEFT, at + half))

#define CHANGE(name, parameters, given, room, where, path)       \
  int name parameters {                                          \
    if (!(where)) return REAL(name) given;                       \
    DONE(room, #name, path, REAL(name) given)                    \
  }
CHANGE(rename, (const char *a, const char *b), (a, b), 0, inside(AT_FDCWD, a) || inside(AT_FDCWD, b), b)
CHANGE(renameat, (int x, const char *a, int y, const char *b), (x, a, y, b), 0, inside(x, a) || inside(y, b), b)
CHANGE(renameat2, (int x, const char *a, int y, const char *b, unsigned f), (x, a, y, b, f), 0,
       inside(x, a) || inside(y, b), b)
CHANGE(link, (const char *a, const char *b), (a, b), 1, inside(AT_FDCWD, b), b)
CHANGE(linkat, (int x, const char *a, int y, const char *b, int f), (x, a, y, b, f), 1, inside(y, b), b)
CHANGE(mkdir, (const char *path, mode_t mode), (path, mode), 1, inside(AT_FDCWD, path), path)
CHANGE(mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), 1, inside(folder, path), path)
CHANGE(unlink, (const char *path), (path), 0, inside(AT_FDCWD, path), path)
CHANGE(unlinkat, (int folder, const char *path, int f), (folder, path, f), 0, inside(folder, path), path)
CHANGE(rmdir, (const char *path), (path), 0, inside(AT_FDCWD, path), path)
CHANGE(truncate, (const char *path, off_t size), (path, size), 1, inside(AT_FDCWD, path), path)
CHANGE(ftruncate, (int file, off_t size), (file, size), 1, inside(file, NULL), NULL)
CHANGE(ftruncate64, (int file, off64_t size), (file, size), 1, inside(file, NULL), NULL)
CHANGE(fallocate, (int file, int m, off_t a, off_t b), (file, m, a, b), 1, inside(file, NULL), NULL)
CHANGE(fsync, (int file), (file), 0, inside(file, NULL), NULL)
CHANGE(fdatasync, (int file), (file), 0, inside(file, NULL), NULL)

ssize_t writev(int file, const struct iovec *parts, int count) {
  if (!inside(file, NULL)) return REAL(writev)(file, parts, count);
  DONE(1, "writev", NULL, REAL(writev)(file, parts, count))
}
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset) {
  if (!inside(file, NULL)) return REAL(pwritev)(file, parts, count, offset);
  DONE(1, "pwritev", NULL, REAL(pwritev)(file, parts, count, offset))
}
ssize_t copy_file_range(int a, off64_t *x, int b, off64_t *y, size_t size, unsigned f) {
  if (!inside(b, NULL)) return REAL(copy_file_range)(a, x, b, y, size, f);
  DONE(1, "copy_file_range", NULL, REAL(copy_file_range)(a, x, b, y, size, f))
}
