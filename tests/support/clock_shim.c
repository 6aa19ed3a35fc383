/* Sets the clock of one process, as its operator would set that of its machine: CLOCK_REALTIME is ahead by the seconds
   that the file CLOCK_AHEAD_FILE holds. The monotonic clock goes on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    const char *path = getenv("CLOCK_AHEAD_FILE");
    if (result == 0 && id == CLOCK_REALTIME && path) {
        long ahead = 0;
        FILE *file = fopen(path, "r");
        if (file) {
            if (fscanf(file, "%ld", &ahead) != 1)
                ahead = 0;
            fclose(file);
        }
        now->tv_sec += ahead;
    }
    return result;
}
