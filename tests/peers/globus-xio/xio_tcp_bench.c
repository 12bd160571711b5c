/*
 * Loopback tcp: Globus XIO (public API) and plain sockets, in the same layout of two processes.
 * One sample a call: the child listens and answers, the parent measures and prints.
 *
 * usage: xio_tcp_bench CONTENDER MODE SIZE OPS [PLACEMENT]
 *   CONTENDER  raw        blocking read(2) and write(2)
 *              xioblock   globus_xio_read and globus_xio_write
 *              xioasync   globus_xio_register_read and _write, the next posted from the callback
 *   MODE       pingpong   SIZE bytes out and SIZE back, OPS times
 *              stream     OPS messages of SIZE bytes, then one byte back
 *   PLACEMENT  1cpu, 2cpu or free (default)
 * The sink reads exactly SIZE bytes an op. TCP_NODELAY, page-aligned buffers, a warm-up of a
 * tenth of OPS (20..1000). GLOBUS_THREAD_MODEL=none|pthread picks Globus' thread model.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "bench.h"
#include "globus_xio_tcp_driver.h"

static size_t size;
static int pingpong, is_server;
static unsigned char *buf;
static float *trips; /* round trips in ns, or NULL while warming up and on the server */
static long n_trips;
static double last;

static void mark(void)
{
    double now;
    if (!trips) return;
    now = ns(CLOCK_MONOTONIC);
    trips[n_trips++] = (float)(now - last);
    last = now;
}

/* A connected side. `drive` does n ops; what is left is blocking and moves exactly n bytes. */
struct side {
    void (*send)(size_t n);
    void (*recv)(size_t n);
    void (*drive)(long n);
};
static const struct side *side;

static void drive_blocking(long n)
{
    for (long i = 0; i < n; i++) {
        if (is_server) {
            side->recv(size);
            if (pingpong) side->send(size);
        } else {
            side->send(size);
            if (pingpong) side->recv(size);
            if (pingpong) mark();
        }
    }
}
/* n ops; a stream ends with one byte back, so that both sides know it is over */
static void phase(long n)
{
    side->drive(n);
    if (pingpong) return;
    if (is_server) side->send(1);
    else side->recv(1);
}

/* ------------------------------------------------ plain sockets */
static int fd;
static void raw_recv(size_t n)
{
    for (unsigned char *b = buf; n;) {
        ssize_t r = read(fd, b, n);
        if (r > 0) { b += r; n -= r; }
        else if (r == 0) { fprintf(stderr, "the peer is gone\n"); exit(2); }
        else if (errno != EINTR) die("read");
    }
}
static void raw_send(size_t n)
{
    for (unsigned char *b = buf; n;) {
        ssize_t r = write(fd, b, n);
        if (r > 0) { b += r; n -= r; }
        else if (errno != EINTR) die("write");
    }
}
static const struct side raw = { raw_send, raw_recv, drive_blocking };

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port) };
    return a;
}
static void nodelay(void)
{
    int one = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)) die("nodelay");
}
static void tell_port(int pipe_fd, int port)
{
    if (write(pipe_fd, &port, sizeof port) != sizeof port) die("pipe");
}
static void raw_accept(int pipe_fd)
{
    struct sockaddr_in a = loopback(0);
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    if (l < 0 || bind(l, (void *)&a, len) || listen(l, 1) || getsockname(l, (void *)&a, &len)) die("listen");
    tell_port(pipe_fd, ntohs(a.sin_port));
    if ((fd = accept(l, NULL, NULL)) < 0) die("accept");
    nodelay();
}
static void raw_connect(int port)
{
    struct sockaddr_in a = loopback(port);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (void *)&a, sizeof a)) die("connect");
    nodelay();
}

/* ------------------------------------------------ Globus XIO */
static globus_xio_handle_t handle;
static globus_xio_stack_t stack;
static globus_xio_attr_t attr;

static void xio_recv(size_t n)
{
    globus_size_t got;
    ck(globus_xio_read(handle, buf, n, n, &got, NULL), "read");
}
static void xio_send(size_t n)
{
    globus_size_t sent;
    ck(globus_xio_write(handle, buf, n, n, &sent, NULL), "write");
}
static const struct side xioblock = { xio_send, xio_recv, drive_blocking };

static globus_mutex_t mutex;
static globus_cond_t cond;
static int done;
static long left;

static void post_read(void);
static void post_write(void);
static void op_over(void (*next)(void))
{
    if (--left > 0) {
        next();
        return;
    }
    globus_mutex_lock(&mutex);
    done = 1;
    globus_cond_signal(&cond);
    globus_mutex_unlock(&mutex);
}
static void on_write(globus_xio_handle_t h, globus_result_t r, globus_byte_t *b, globus_size_t l, globus_size_t n,
                     globus_xio_data_descriptor_t d, void *u)
{
    (void)h; (void)b; (void)l; (void)n; (void)d; (void)u;
    ck(r, "write callback");
    if (pingpong && !is_server) post_read();
    else op_over(pingpong ? post_read : post_write);
}
static void on_read(globus_xio_handle_t h, globus_result_t r, globus_byte_t *b, globus_size_t l, globus_size_t n,
                    globus_xio_data_descriptor_t d, void *u)
{
    (void)h; (void)b; (void)l; (void)n; (void)d; (void)u;
    ck(r, "read callback");
    if (pingpong && is_server) {
        post_write();
        return;
    }
    if (pingpong) mark();
    op_over(pingpong ? post_write : post_read);
}
static void post_read(void) { ck(globus_xio_register_read(handle, buf, size, size, NULL, on_read, NULL), "register_read"); }
static void post_write(void) { ck(globus_xio_register_write(handle, buf, size, size, NULL, on_write, NULL), "register_write"); }
static void drive_async(long n)
{
    left = n;
    done = 0;
    if (is_server) post_read();
    else post_write();
    globus_mutex_lock(&mutex);
    while (!done) globus_cond_wait(&cond, &mutex);
    globus_mutex_unlock(&mutex);
}
static const struct side xioasync = { xio_send, xio_recv, drive_async };

static void xio_up(void)
{
    globus_xio_driver_t tcp;
    if (globus_module_activate(GLOBUS_XIO_MODULE)) { fprintf(stderr, "activate\n"); exit(2); }
    globus_mutex_init(&mutex, NULL);
    globus_cond_init(&cond, NULL);
    ck(globus_xio_driver_load("tcp", &tcp), "load tcp");
    ck(globus_xio_stack_init(&stack, NULL), "stack");
    ck(globus_xio_stack_push_driver(stack, tcp), "push tcp");
    ck(globus_xio_attr_init(&attr), "attr");
    ck(globus_xio_attr_cntl(attr, tcp, GLOBUS_XIO_TCP_SET_NODELAY, GLOBUS_TRUE), "nodelay");
    ck(globus_xio_attr_cntl(attr, tcp, GLOBUS_XIO_TCP_SET_INTERFACE, "127.0.0.1"), "interface");
    ck(globus_xio_attr_cntl(attr, tcp, GLOBUS_XIO_TCP_SET_NO_IPV6, GLOBUS_TRUE), "no ipv6");
}
static void xio_accept(int pipe_fd)
{
    globus_xio_server_t server;
    char *contact;
    xio_up();
    ck(globus_xio_server_create(&server, attr, stack), "server_create");
    ck(globus_xio_server_get_contact_string(server, &contact), "contact");
    tell_port(pipe_fd, atoi(strrchr(contact, ':') + 1));
    ck(globus_xio_server_accept(&handle, server), "accept");
    ck(globus_xio_open(handle, NULL, attr), "open");
}
static void xio_connect(int port)
{
    char contact[32];
    snprintf(contact, sizeof contact, "127.0.0.1:%d", port);
    xio_up();
    ck(globus_xio_handle_create(&handle, stack), "handle");
    ck(globus_xio_open(handle, contact, attr), "open");
}

/* ------------------------------------------------ one sample */
enum placement { ONE_CPU, TWO_CPUS, UNPINNED };
static void pin(enum placement placement)
{
    cpu_set_t usable, one;
    int cpu, want = placement == TWO_CPUS && is_server;
    if (placement == UNPINNED) return;
    if (sched_getaffinity(0, sizeof usable, &usable)) die("affinity");
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &usable) && want-- == 0) break;
    if (cpu == CPU_SETSIZE) { fprintf(stderr, "2cpu needs two usable CPUs\n"); exit(2); }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one)) die("affinity");
}
/* a failing parent leaves no child behind, not even a dead one */
static pid_t child;
static void reap(void)
{
    if (child <= 0) return;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}
static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}
int main(int argc, char **argv)
{
    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: %s raw|xioblock|xioasync pingpong|stream SIZE OPS [1cpu|2cpu|free]\n", argv[0]);
        return 1;
    }
    static const struct side *const sides[] = { &raw, &xioblock, &xioasync };
    const char *where = argc > 5 ? argv[5] : "free";
    enum placement placement = one_of(where, "1cpu|2cpu|free");
    int pipe_fds[2], port, status;
    side = sides[one_of(argv[1], "raw|xioblock|xioasync")];
    int is_raw = side == &raw;
    pingpong = !one_of(argv[2], "pingpong|stream");
    size = count_arg(argv[3], 1);
    long ops = count_arg(argv[4], 1), warm = ops / 10 < 20 ? 20 : ops / 10 > 1000 ? 1000 : ops / 10;
    double wall, cpu, server_cpu;
    float *measured = malloc(ops * sizeof *measured);
    if (!measured || posix_memalign((void **)&buf, 4096, size)) { fprintf(stderr, "no memory\n"); return 2; }
    memset(buf, 7, size);
    memset(measured, 0, ops * sizeof *measured);

    /* before Globus is up in either: it does not survive a fork */
    if (pipe(pipe_fds)) die("pipe");
    alarm(LIMIT_S);
    child = fork();
    if (child < 0) die("fork");
    if (!child) {
        is_server = 1;
        alarm(LIMIT_S);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(placement);
        close(pipe_fds[0]);
        if (is_raw) raw_accept(pipe_fds[1]);
        else xio_accept(pipe_fds[1]);
        phase(warm);
        cpu = ns(CLOCK_PROCESS_CPUTIME_ID);
        phase(ops);
        cpu = ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        if (write(pipe_fds[1], &cpu, sizeof cpu) != sizeof cpu) die("pipe");
        _exit(0);
    }
    atexit(reap);
    pin(placement);
    close(pipe_fds[1]);
    if (read(pipe_fds[0], &port, sizeof port) != sizeof port) { fprintf(stderr, "the server failed\n"); return 2; }
    if (is_raw) raw_connect(port);
    else xio_connect(port);
    phase(warm);
    cpu = ns(CLOCK_PROCESS_CPUTIME_ID);
    wall = last = ns(CLOCK_MONOTONIC);
    if (pingpong) trips = measured;
    phase(ops);
    wall = ns(CLOCK_MONOTONIC) - wall;
    cpu = ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (read(pipe_fds[0], &server_cpu, sizeof server_cpu) != sizeof server_cpu || waitpid(child, &status, 0) < 0 || status) {
        fprintf(stderr, "the server failed\n");
        return 2;
    }
    child = 0;
    printf("{\"contender\":\"%s\",\"mode\":\"%s\",\"size\":%zu,\"ops\":%ld,\"placement\":\"%s\",\"ns_per_op\":%.1f,"
           "\"bytes_per_s\":%.0f,\"cpu_ns_per_op\":%.1f,", argv[1], argv[2], size, ops, where, wall / ops,
           size * 1e9 * ops / wall, (cpu + server_cpu) / ops);
    if (pingpong) {
        qsort(measured, ops, sizeof *measured, ascending);
        printf("\"p50_us\":%.2f,\"p99_us\":%.2f}\n", measured[ops / 2] / 1e3, measured[ops * 99 / 100] / 1e3);
    } else
        printf("\"p50_us\":null,\"p99_us\":null}\n");
    return 0;
}
