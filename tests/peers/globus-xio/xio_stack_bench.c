/*
 * What one more level costs in Globus XIO, through its public driver API, without I/O: a
 * transport that finishes every op inside its entry point and moves no data, and LEVELS
 * transforms above it. One sample a call; take the slope over several LEVELS.
 *
 * usage: xio_stack_bench CONTENDER MODE FORM LEVELS OPS
 *   CONTENDER  xioblock   globus_xio_read and globus_xio_write
 *              xioasync   globus_xio_register_read and _write, the next posted from the callback
 *   MODE       read or write, 64 bytes
 *   FORM       cb         the transforms pass with a callback and finish there (the documented form)
 *              absent     the transforms have no read and write (the framework skips the level)
 * Compare cpu_ns_per_op: wall time would charge the slices of other processes.
 * Built with -DCOUNT_CALLS (xio_stack_count) it also prints mallocs and mutex locks an op.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "globus_xio_driver.h"

#ifdef COUNT_CALLS
#include <dlfcn.h>
#undef globus_mutex_lock
extern void *__libc_malloc(size_t);
static volatile long n_malloc, n_lock;
void *malloc(size_t n)
{
    n_malloc++;
    return __libc_malloc(n);
}
int globus_mutex_lock(globus_mutex_t *m)
{
    static int (*real)(globus_mutex_t *);
    if (!real) real = (int (*)(globus_mutex_t *))dlsym(RTLD_NEXT, "globus_mutex_lock");
    n_lock++;
    return real(m);
}
#endif

/* ------------------------------------------------ the transport */
static globus_size_t total(const globus_xio_iovec_t *v, int n)
{
    globus_size_t sum = 0;
    for (int i = 0; i < n; i++) sum += v[i].iov_len;
    return sum;
}
static globus_result_t null_open(const globus_xio_contact_t *c, void *link, void *a, globus_xio_operation_t op)
{
    (void)c; (void)link; (void)a;
    globus_xio_driver_finished_open((void *)1, op, GLOBUS_SUCCESS);
    return GLOBUS_SUCCESS;
}
static globus_result_t null_close(void *h, void *a, globus_xio_operation_t op)
{
    (void)h; (void)a;
    globus_xio_driver_finished_close(op, GLOBUS_SUCCESS);
    return GLOBUS_SUCCESS;
}
static globus_result_t null_read(void *h, const globus_xio_iovec_t *v, int n, globus_xio_operation_t op)
{
    (void)h;
    globus_xio_driver_finished_read(op, GLOBUS_SUCCESS, total(v, n));
    return GLOBUS_SUCCESS;
}
static globus_result_t null_write(void *h, const globus_xio_iovec_t *v, int n, globus_xio_operation_t op)
{
    (void)h;
    globus_xio_driver_finished_write(op, GLOBUS_SUCCESS, total(v, n));
    return GLOBUS_SUCCESS;
}

/* ------------------------------------------------ the transform */
static void pass_open_cb(globus_xio_operation_t op, globus_result_t r, void *u)
{
    (void)u;
    globus_xio_driver_finished_open((void *)1, op, r);
}
static globus_result_t pass_open(const globus_xio_contact_t *c, void *link, void *a, globus_xio_operation_t op)
{
    (void)link; (void)a;
    return globus_xio_driver_pass_open(op, c, pass_open_cb, NULL);
}
static void pass_close_cb(globus_xio_operation_t op, globus_result_t r, void *u)
{
    (void)u;
    globus_xio_driver_finished_close(op, r);
}
static globus_result_t pass_close(void *h, void *a, globus_xio_operation_t op)
{
    (void)h; (void)a;
    return globus_xio_driver_pass_close(op, pass_close_cb, NULL);
}
static void pass_read_cb(globus_xio_operation_t op, globus_result_t r, globus_size_t n, void *u)
{
    (void)u;
    globus_xio_driver_finished_read(op, r, n);
}
static globus_result_t pass_read(void *h, const globus_xio_iovec_t *v, int n, globus_xio_operation_t op)
{
    (void)h;
    return globus_xio_driver_pass_read(op, (globus_xio_iovec_t *)v, n, globus_xio_operation_get_wait_for(op),
                                       pass_read_cb, NULL);
}
static void pass_write_cb(globus_xio_operation_t op, globus_result_t r, globus_size_t n, void *u)
{
    (void)u;
    globus_xio_driver_finished_write(op, r, n);
}
static globus_result_t pass_write(void *h, const globus_xio_iovec_t *v, int n, globus_xio_operation_t op)
{
    (void)h;
    return globus_xio_driver_pass_write(op, (globus_xio_iovec_t *)v, n, globus_xio_operation_get_wait_for(op),
                                        pass_write_cb, NULL);
}

/* ------------------------------------------------ driving it */
static unsigned char buf[64];
static globus_xio_handle_t handle;
static globus_mutex_t mutex;
static globus_cond_t cond;
static int async, writing, done;
static long left;

static void post(void);
static void on_data(globus_xio_handle_t h, globus_result_t r, globus_byte_t *b, globus_size_t l, globus_size_t n,
                    globus_xio_data_descriptor_t d, void *u)
{
    (void)h; (void)b; (void)l; (void)n; (void)d; (void)u;
    ck(r, "callback");
    if (--left > 0) {
        post();
        return;
    }
    globus_mutex_lock(&mutex);
    done = 1;
    globus_cond_signal(&cond);
    globus_mutex_unlock(&mutex);
}
static void post(void)
{
    if (writing) ck(globus_xio_register_write(handle, buf, sizeof buf, sizeof buf, NULL, on_data, NULL), "register_write");
    else ck(globus_xio_register_read(handle, buf, sizeof buf, sizeof buf, NULL, on_data, NULL), "register_read");
}
static void drive(long ops)
{
    globus_size_t n;
    if (!async) {
        for (long i = 0; i < ops; i++)
            if (writing) ck(globus_xio_write(handle, buf, sizeof buf, sizeof buf, &n, NULL), "write");
            else ck(globus_xio_read(handle, buf, sizeof buf, sizeof buf, &n, NULL), "read");
        return;
    }
    done = 0;
    left = ops;
    post();
    globus_mutex_lock(&mutex);
    while (!done) globus_cond_wait(&cond, &mutex);
    globus_mutex_unlock(&mutex);
}

int main(int argc, char **argv)
{
    globus_xio_driver_t null, pass;
    globus_xio_stack_t stack;
    if (argc != 6) {
        fprintf(stderr, "usage: %s xioblock|xioasync read|write cb|absent LEVELS OPS\n", argv[0]);
        return 1;
    }
    async = one_of(argv[1], "xioblock|xioasync");
    writing = one_of(argv[2], "read|write");
    int absent = one_of(argv[3], "cb|absent");
    long levels = count_arg(argv[4], 0), ops = count_arg(argv[5], 1);
    alarm(LIMIT_S);
    if (globus_module_activate(GLOBUS_XIO_MODULE)) { fprintf(stderr, "activate\n"); return 2; }
    globus_mutex_init(&mutex, NULL);
    globus_cond_init(&cond, NULL);

    ck(globus_xio_driver_init(&null, "benchnull", NULL), "init");
    globus_xio_driver_set_transport(null, null_open, null_close, null_read, null_write, NULL);
    ck(globus_xio_driver_init(&pass, "benchpass", NULL), "init");
    globus_xio_driver_set_transform(pass, pass_open, pass_close, absent ? NULL : pass_read, absent ? NULL : pass_write,
                                    NULL, NULL);
    ck(globus_xio_stack_init(&stack, NULL), "stack");
    ck(globus_xio_stack_push_driver(stack, null), "push");
    for (long i = 0; i < levels; i++) ck(globus_xio_stack_push_driver(stack, pass), "push");
    ck(globus_xio_handle_create(&handle, stack), "handle");
    ck(globus_xio_open(handle, "x", NULL), "open");

    drive(ops / 10 + 20);
#ifdef COUNT_CALLS
    long mallocs = n_malloc, locks = n_lock;
#endif
    double wall = ns(CLOCK_MONOTONIC), cpu = ns(CLOCK_PROCESS_CPUTIME_ID);
    drive(ops);
    cpu = ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = ns(CLOCK_MONOTONIC) - wall;
#ifdef COUNT_CALLS
    mallocs = n_malloc - mallocs;
    locks = n_lock - locks;
#endif
    printf("{\"contender\":\"%s\",\"mode\":\"%s\",\"size\":%zu,\"ops\":%ld,\"form\":\"%s\",\"levels\":%ld,"
           "\"ns_per_op\":%.1f,\"bytes_per_s\":%.0f,\"cpu_ns_per_op\":%.1f,\"p50_us\":null,\"p99_us\":null", argv[1], argv[2],
           sizeof buf, ops, argv[3], levels, wall / ops, sizeof buf * 1e9 * ops / wall, cpu / ops);
#ifdef COUNT_CALLS
    printf(",\"mallocs_per_op\":%.2f,\"locks_per_op\":%.2f", (double)mallocs / ops, (double)locks / ops);
#endif
    printf("}\n");
    ck(globus_xio_close(handle, NULL), "close");
    fflush(stdout);
    _exit(0); /* Globus' module teardown is not what is measured, and can take seconds */
}
