/* A wall clock that jumps: loaded before libc, it shifts what programs are told. The monotonic clock stays as it is. */

#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t shift(void) {
    static const time_t shifts[] = {0, -86400, 365 * 86400L, 3600};
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return shifts[(now.tv_sec / 3) % 4];
}

int clock_gettime(clockid_t clock, struct timespec *value) {
    int status = syscall(SYS_clock_gettime, clock, value);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) value->tv_sec += shift();
    return status;
}

int gettimeofday(struct timeval *value, void *zone) {
    int status = syscall(SYS_gettimeofday, value, zone);
    if (status == 0) value->tv_sec += shift();
    return status;
}

time_t time(time_t *value) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (value) *value = now.tv_sec;
    return now.tv_sec;
}
