/* A disk that stands still or is slow, put into the server by LD_PRELOAD. Calls that change a file below
   $HEADGATE_TEST_DISK wait while there is a file $HEADGATE_TEST_STALL: as many milliseconds as it says, or, if it says
   nothing, until it is gone. Sockets and other files are left alone. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_of_the_disk(int file)
{
    char link[64], path[4096];
    const char *root = getenv("HEADGATE_TEST_DISK");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path);
    return root && length > (ssize_t)strlen(root) && strncmp(path, root, strlen(root)) == 0;
}

static void pass(int file)
{
    int kept = errno, is_slow = 0;
    const char *stall = getenv("HEADGATE_TEST_STALL");
    while (!is_slow && stall && is_of_the_disk(file)) {
        char text[16] = {0};
        int told = open(stall, O_RDONLY | O_CLOEXEC);
        if (told < 0)
            break;
        is_slow = read(told, text, sizeof text - 1) > 0;
        close(told);
        usleep(1000 * (is_slow ? atoi(text) : 5));
    }
    errno = kept;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t count)
{
    pass(file);
    return NEXT(write)(file, bytes, count);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    pass(file);
    return NEXT(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at)
{
    pass(file);
    return NEXT(pwrite64)(file, bytes, count, at);
}

int ftruncate64(int file, off64_t length)
{
    pass(file);
    return NEXT(ftruncate64)(file, length);
}

int fsync(int file)
{
    pass(file);
    return NEXT(fsync)(file);
}

int fdatasync(int file)
{
    pass(file);
    return NEXT(fdatasync)(file);
}
