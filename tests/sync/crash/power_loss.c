/* Records what a process does to the files of one directory, so that a test can replay a loss of power.

   Preload it with POWER_LOSS_DIRECTORY and POWER_LOSS_LOG set. Each record is a line of text, followed by the
   data of a write:

       W fd-path offset length      T fd-path size      S fd-path      C path      U path      R old new      P length

   W writes, T truncates, S syncs, C creates, U unlinks, R renames, and P prints to stdout. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *paths[FILES];
static const char *directory;
static int log_file = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    directory = getenv("POWER_LOSS_DIRECTORY");
    if (directory && getenv("POWER_LOSS_LOG"))
        log_file = REAL(open)(getenv("POWER_LOSS_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) {
    return log_file >= 0 && path && strncmp(path, directory, strlen(directory)) == 0;
}

static const char *path_of(int fd) { return fd >= 0 && fd < FILES ? paths[fd] : NULL; }

static void record(const void *data, size_t length, const char *format, ...) {
    char line[2 * PATH_MAX + 64];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (REAL(write)(log_file, line, size) != size || (length && REAL(write)(log_file, data, length) != (ssize_t)length))
        abort();
}

static int opened(int fd, const char *path, int flags, int existed) {
    if (fd >= 0 && fd < FILES && is_ours(path)) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = strdup(path);
        if (!existed)
            record(NULL, 0, "C\t%s\n", path);
        else if (flags & O_TRUNC)
            record(NULL, 0, "T\t%s\t0\n", path);
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

static int exists(const char *path) { return access(path, F_OK) == 0; }

#define OPEN(name, parameters, arguments)                                                                      \
    int name parameters {                                                                                      \
        mode_t mode = 0;                                                                                       \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                 \
            va_list more;                                                                                      \
            va_start(more, flags);                                                                             \
            mode = va_arg(more, mode_t);                                                                       \
            va_end(more);                                                                                      \
        }                                                                                                      \
        int existed = exists(path);                                                                            \
        return opened(REAL(name) arguments, path, flags, existed);                                             \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (path_of(fd)) {
        free(paths[fd]);
        paths[fd] = NULL;
    }
    pthread_mutex_unlock(&lock);
    return REAL(close)(fd);
}

/* The real call and its record are one step: otherwise a sync could be recorded before a write that it covers. */
#define LOCKED(call, test, ...)                                                                                \
    pthread_mutex_lock(&lock);                                                                                 \
    __typeof__(call) result = (call);                                                                          \
    if (test)                                                                                                  \
        record(__VA_ARGS__);                                                                                   \
    pthread_mutex_unlock(&lock);                                                                               \
    return result;

ssize_t write(int fd, const void *data, size_t length) {
    if (fd == STDOUT_FILENO && log_file >= 0) {
        LOCKED(REAL(write)(fd, data, length), result > 0, data, result, "P\t%zd\n", result)
    }
    off_t offset = path_of(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    LOCKED(REAL(write)(fd, data, length), result > 0 && path_of(fd), data, result, "W\t%s\t%lld\t%zd\n",
           path_of(fd), (long long)offset, result)
}

#define PWRITE(name, type)                                                                                     \
    ssize_t name(int fd, const void *data, size_t length, type offset) {                                       \
        LOCKED(REAL(name)(fd, data, length, offset), result > 0 && path_of(fd), data, result,                  \
               "W\t%s\t%lld\t%zd\n", path_of(fd), (long long)offset, result)                                   \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, type)                                                                                   \
    int name(int fd, type size) {                                                                              \
        LOCKED(REAL(name)(fd, size), result == 0 && path_of(fd), NULL, 0, "T\t%s\t%lld\n", path_of(fd),        \
               (long long)size)                                                                                \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                                                             \
    int name(int fd) { LOCKED(REAL(name)(fd), result == 0 && path_of(fd), NULL, 0, "S\t%s\n", path_of(fd)) }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) { LOCKED(REAL(unlink)(path), result == 0 && is_ours(path), NULL, 0, "U\t%s\n", path) }
int remove(const char *path) { LOCKED(REAL(remove)(path), result == 0 && is_ours(path), NULL, 0, "U\t%s\n", path) }
int rename(const char *old, const char *new) {
    LOCKED(REAL(rename)(old, new), result == 0 && is_ours(new), NULL, 0, "R\t%s\t%s\n", old, new)
}
