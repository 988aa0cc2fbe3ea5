/* A disk that fails, for one directory and this process: preload it (LD_PRELOAD).

   FAILING_DISK_DIRECTORY    absolute, without links: files in and below it are on the disk
   FAILING_DISK_SYNC         this one of the process's syncs there, counted from 1, fails with EIO;
                             as with a real disk, the next one may succeed
   FAILING_DISK_BYTES        the process may write so many bytes there; a write past them is cut,
                             and the next one fails with ENOSPC

   Seen are the system's own calls, not what is written through a memory map or by stdio. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long syncs = 0;
static atomic_llong bytes_written = 0;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* The kernel knows where a descriptor leads, whatever it was opened by and renamed to since. */
static int is_on_disk(int descriptor) {
    const char *directory = setting("FAILING_DISK_DIRECTORY");
    char link[64], path[PATH_MAX];
    if (!directory) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = '\0';
    size_t prefix = strlen(directory);
    return strncmp(path, directory, prefix) == 0 && (path[prefix] == '/' || path[prefix] == '\0');
}

static int sync_fails(int descriptor) {
    const char *number = setting("FAILING_DISK_SYNC");
    if (!number || !is_on_disk(descriptor)) return 0;
    if (atomic_fetch_add(&syncs, 1) + 1 != atol(number)) return 0;
    errno = EIO;
    return 1;
}

/* How many of `wanted` bytes there is room for; -1 with ENOSPC where there is none. */
static ssize_t room(int descriptor, size_t wanted) {
    const char *most = setting("FAILING_DISK_BYTES");
    if (!most || wanted == 0 || !is_on_disk(descriptor)) return (ssize_t)wanted;
    long long limit = atoll(most), before = atomic_load(&bytes_written), taken;
    do {
        long long left = limit - before;
        if (left <= 0) {
            errno = ENOSPC;
            return -1;
        }
        taken = left < (long long)wanted ? left : (long long)wanted;
    } while (!atomic_compare_exchange_weak(&bytes_written, &before, before + taken));
    return (ssize_t)taken;
}

#define NEXT(name, type) ((type)dlsym(RTLD_NEXT, name))

int fsync(int descriptor) {
    if (sync_fails(descriptor)) return -1;
    return NEXT("fsync", int (*)(int))(descriptor);
}

int fdatasync(int descriptor) {
    if (sync_fails(descriptor)) return -1;
    return NEXT("fdatasync", int (*)(int))(descriptor);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t allowed = room(descriptor, size);
    if (allowed < 0) return -1;
    return NEXT("write", ssize_t (*)(int, const void *, size_t))(descriptor, data, (size_t)allowed);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) {
    ssize_t allowed = room(descriptor, size);
    if (allowed < 0) return -1;
    return NEXT("pwrite", ssize_t (*)(int, const void *, size_t, off_t))(
        descriptor, data, (size_t)allowed, at);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t at) {
    ssize_t allowed = room(descriptor, size);
    if (allowed < 0) return -1;
    return NEXT("pwrite64", ssize_t (*)(int, const void *, size_t, off64_t))(
        descriptor, data, (size_t)allowed, at);
}

/* Only the first piece, as a short write may: callers go on with the rest. */
ssize_t writev(int descriptor, const struct iovec *pieces, int count) {
    if (!setting("FAILING_DISK_BYTES") || !is_on_disk(descriptor))
        return NEXT("writev", ssize_t (*)(int, const struct iovec *, int))(
            descriptor, pieces, count);
    for (int i = 0; i < count; i++)
        if (pieces[i].iov_len) return write(descriptor, pieces[i].iov_base, pieces[i].iov_len);
    return 0;
}

ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    ssize_t allowed = room(to, size);
    if (allowed < 0) return -1;
    return NEXT("sendfile", ssize_t (*)(int, int, off_t *, size_t))(to, from, at, (size_t)allowed);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    ssize_t allowed = room(to, size);
    if (allowed < 0) return -1;
    return NEXT("sendfile64", ssize_t (*)(int, int, off64_t *, size_t))(
        to, from, at, (size_t)allowed);
}

ssize_t copy_file_range(
    int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned int flags) {
    ssize_t allowed = room(to, size);
    if (allowed < 0) return -1;
    return NEXT("copy_file_range",
                ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned int))(
        from, from_at, to, to_at, (size_t)allowed, flags);
}
