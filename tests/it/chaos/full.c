// A disk that takes no more for as long as there is a file DISK_IS_FULL: what is there may be written again, but no file grows
// that a process with this preloaded writes to.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int grows(int fd, off_t end) {
    struct stat file;
    const char *mark = getenv("DISK_IS_FULL");
    // What it says of itself goes on.
    return fd > 2 && mark && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && end > file.st_size && access(mark, F_OK) == 0;
}

static off_t all(const struct iovec *parts, int n) {
    off_t bytes = 0;
    for (int i = 0; i < n; i++) bytes += parts[i].iov_len;
    return bytes;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REFUSED (errno = ENOSPC, -1)

ssize_t write(int fd, const void *bytes, size_t n) {
    return grows(fd, lseek(fd, 0, SEEK_CUR) + n) ? REFUSED : REAL(write)(fd, bytes, n);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    return grows(fd, lseek(fd, 0, SEEK_CUR) + all(parts, n)) ? REFUSED : REAL(writev)(fd, parts, n);
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
    return grows(fd, at + n) ? REFUSED : REAL(pwrite)(fd, bytes, n, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    return grows(fd, at + n) ? REFUSED : REAL(pwrite64)(fd, bytes, n, at);
}
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) {
    return grows(fd, at + all(parts, n)) ? REFUSED : REAL(pwritev)(fd, parts, n, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t at) {
    return grows(fd, at + all(parts, n)) ? REFUSED : REAL(pwritev64)(fd, parts, n, at);
}
// These say what went wrong themselves.
int posix_fallocate(int fd, off_t at, off_t n) { return grows(fd, at + n) ? ENOSPC : REAL(posix_fallocate)(fd, at, n); }
int posix_fallocate64(int fd, off64_t at, off64_t n) { return grows(fd, at + n) ? ENOSPC : REAL(posix_fallocate64)(fd, at, n); }
