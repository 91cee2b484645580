/*
 * storm - opens N WebSocket connections as fast as they are accepted, and
 * measures how long it takes until each has been painted: has received a
 * frame with a given text. Prints one JSON object.
 *
 * Build:  cc -O2 -Wall -Wextra -o storm storm.c
 * Usage:  storm PORT TARGET N PID TEXT [SUBPROTOCOL MESSAGE]
 *
 * PID is the server, whose processor time is counted. With a subprotocol,
 * MESSAGE is sent as soon as the handshake is answered. All N connect at once,
 * as clients do whose server was away; the kernel's queue holds 4096. They
 * stay until stdin is closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 4000
#define HELD 8192
#define DEADLINE_MS 60000

enum state { CONNECTING, HANDSHAKE, OPEN, PAINTED, FAILED };

struct client {
    int fd;
    enum state state;
    double began;
    size_t len;
    char held[HELD];
};

static int epoll_fd, started, waiting, painted, failed, number, port;
static const char *target, *text, *subprotocol, *message;
static struct client *clients;
static double *times_ms;

static double seconds(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void end(struct client *c, enum state state)
{
    waiting--;
    c->state = state;
    if (state == PAINTED)
        times_ms[painted++] = (seconds(CLOCK_MONOTONIC) - c->began) * 1e3;
    else
        failed++;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
}

static void start(struct client *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("socket");
        exit(2);
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->began = seconds(CLOCK_MONOTONIC);
    started++;
    waiting++;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS) end(c, FAILED);
}

static void shake_hands(struct client *c)
{
    char request[4096];
    int n = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"
        "Origin: http://localhost:3000\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n"
        "Accept-Language: en-GB,en\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s%s\r\n",
        target, port, subprotocol ? "Sec-WebSocket-Protocol: " : "", subprotocol ? subprotocol : "",
        subprotocol ? "\r\n" : "");
    if (send(c->fd, request, (size_t)n, MSG_NOSIGNAL) != n) {
        end(c, FAILED);
        return;
    }
    c->state = HANDSHAKE;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

/* A masked text frame of less than 64 KiB; with a mask of zeros the payload stays as it is. */
static void send_message(struct client *c)
{
    unsigned char frame[4096];
    size_t len = strlen(message), head = 2;
    frame[0] = 0x81;
    if (len < 126) {
        frame[1] = (unsigned char)(0x80 | len);
    } else {
        frame[1] = 0x80 | 126;
        frame[2] = (unsigned char)(len >> 8);
        frame[3] = (unsigned char)len;
        head = 4;
    }
    memset(frame + head, 0, 4);
    memcpy(frame + head + 4, message, len);
    if (send(c->fd, frame, head + 4 + len, MSG_NOSIGNAL) < 0) end(c, FAILED);
}

static void receive(struct client *c)
{
    ssize_t n = recv(c->fd, c->held + c->len, HELD - 1 - c->len, 0);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN) return;
        end(c, FAILED);
        return;
    }
    c->len += (size_t)n;
    c->held[c->len] = 0;
    if (c->state == HANDSHAKE) {
        if (!memmem(c->held, c->len, "\r\n\r\n", 4)) return;
        if (strncmp(c->held, "HTTP/1.1 101", 12) != 0) {
            if (!failed) fprintf(stderr, "storm: %.300s\n", c->held);
            end(c, FAILED);
            return;
        }
        c->state = OPEN;
        if (message) send_message(c);
    }
    if (c->state == OPEN && memmem(c->held, c->len, text, strlen(text))) end(c, PAINTED);
    else if (c->len >= HELD - 1) end(c, FAILED);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 8) {
        fprintf(stderr, "usage: storm PORT TARGET N PID TEXT [SUBPROTOCOL MESSAGE]\n");
        return 2;
    }
    port = atoi(argv[1]);
    target = argv[2];
    number = atoi(argv[3]);
    text = argv[5];
    if (argc == 8) {
        subprotocol = argv[6];
        message = argv[7];
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc((size_t)number, sizeof *clients);
    times_ms = calloc((size_t)number, sizeof *times_ms);
    clockid_t server;
    if (clock_getcpuclockid(atoi(argv[4]), &server)) {
        fprintf(stderr, "storm: there is no process %s\n", argv[4]);
        return 2;
    }

    double cpu = seconds(server), began = seconds(CLOCK_MONOTONIC);
    struct epoll_event events[1024];
    while (painted + failed < number) {
        while (started < number && waiting < AT_ONCE) start(&clients[started]);
        int n = epoll_wait(epoll_fd, events, 1024, 1000);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (c->state == CONNECTING) shake_hands(c);
            else receive(c);
        }
        if ((seconds(CLOCK_MONOTONIC) - began) * 1e3 > DEADLINE_MS) break;
    }
    double took = seconds(CLOCK_MONOTONIC) - began;
    cpu = seconds(server) - cpu;
    qsort(times_ms, (size_t)painted, sizeof *times_ms, by_size);
    printf("{\"painted\":%d,\"failed\":%d,\"seconds\":%.4f,\"server_cpu_s\":%.4f,\"p50_ms\":%.1f,\"p99_ms\":%.1f}\n",
           painted, number - painted, took, cpu, painted ? times_ms[painted / 2] : 0,
           painted ? times_ms[painted * 99 / 100] : 0);
    fflush(stdout);
    while (getchar() != EOF)          /* they stay until stdin is closed */
        ;
    struct linger reset = {1, 0};      /* leave no TIME_WAIT behind */
    for (int i = 0; i < started; i++) setsockopt(clients[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return painted == number ? 0 : 1;
}
