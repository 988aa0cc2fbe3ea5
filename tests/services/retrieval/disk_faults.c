/* A disk that fails: preloaded, it refuses what DISK_FAULT names, such as "fsync:5" or "write:28",
 * in paths that contain DISK_FAULT_PATH. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(const char *call, const char *path)
{
    const char *fault = getenv("DISK_FAULT"), *where = getenv("DISK_FAULT_PATH");
    size_t length = strlen(call);
    if (fault == NULL || where == NULL || strstr(path, where) == NULL)
        return 0;
    if (strncmp(fault, call, length) != 0 || fault[length] != ':')
        return 0;
    errno = atoi(fault + length + 1);
    return 1;
}

static int fails_on(const char *call, int descriptor)
{
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    return fails(call, path);
}

int fsync(int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails_on("fsync", descriptor) ? -1 : real(descriptor);
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return fails_on("write", descriptor) ? -1 : real(descriptor, data, size);
}

ssize_t read(int descriptor, void *data, size_t size)
{
    ssize_t (*real)(int, void *, size_t) =
        (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return fails_on("read", descriptor) ? -1 : real(descriptor, data, size);
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    return fails("rename", to) ? -1 : real(from, to);
}

int link(const char *from, const char *to)
{
    int (*real)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "link");
    return fails("link", to) ? -1 : real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags)
{
    int (*real)(int, const char *, int, const char *, int) =
        (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
    return fails("link", to) ? -1 : real(a, from, b, to, flags);
}
