/* What both programs share: errors, clocks, the line of JSON. */
#ifndef BENCH_H
#define BENCH_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "globus_common.h"
#include "globus_xio.h"

/* No child outlives this many seconds, whatever happens. */
#define LIMIT_S 60

static inline void die(const char *what)
{
    perror(what);
    exit(2);
}
static inline void ck(globus_result_t r, const char *what)
{
    if (r == GLOBUS_SUCCESS) return;
    fprintf(stderr, "%s: %s\n", what, globus_error_print_friendly(globus_error_get(r)));
    exit(2);
}
static inline double ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
/* A positive count from the command line. */
static inline long count_arg(const char *text, long min)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || n < min) {
        fprintf(stderr, "`%s` is no count of at least %ld\n", text, min);
        exit(1);
    }
    return n;
}
/* Which of the words of `list`, parted by |, the text is: 0, 1 ... */
static inline int one_of(const char *text, const char *list)
{
    size_t len = strlen(text);
    int i = 0;
    for (const char *word = list; word; i++) {
        const char *end = strchr(word, '|');
        if (len && len == (end ? (size_t)(end - word) : strlen(word)) && !strncmp(text, word, len)) return i;
        word = end ? end + 1 : NULL;
    }
    fprintf(stderr, "`%s` is none of %s\n", text, list);
    exit(1);
}
#endif
