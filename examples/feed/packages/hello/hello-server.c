/* Answers every HTTP request with its version, the version of libgreeting and
 * the text of /etc/hello/greeting. The port is $HELLO_PORT, else 8080. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

const char *greeting_version(void);

static int listen_on(unsigned short port)
{
    /* One socket for IPv6 and IPv4; IPv4 alone where the kernel has no IPv6. */
    struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    int yes = 1, no = 0;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
        if (bind(fd, (struct sockaddr *)&any6, sizeof any6) == 0 && listen(fd, 16) == 0)
            return fd;
        if (errno == EADDRINUSE)
            return -1;
        close(fd);
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&any4, sizeof any4) != 0 || listen(fd, 16) != 0)
        return -1;
    return fd;
}

/* Reads the request up to its blank line; a silent peer is given up after 5 s. */
static int read_request(int peer)
{
    struct timeval limit = { .tv_sec = 5 };
    char request[8192];
    size_t used = 0;

    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (used < sizeof request - 1) {
        ssize_t n = read(peer, request + used, sizeof request - 1 - used);
        if (n <= 0)
            return -1;
        used += (size_t)n;
        request[used] = '\0';
        if (strstr(request, "\r\n\r\n") || strstr(request, "\n\n"))
            return 0;
    }
    return -1;
}

static void answer(int peer)
{
    char body[4096];
    int used = snprintf(body, sizeof body, "hello %s from libgreeting %s\n", VERSION,
                        greeting_version());
    FILE *greeting = fopen("/etc/hello/greeting", "re");

    if (greeting) {
        used += (int)fread(body + used, 1, sizeof body - (size_t)used, greeting);
        fclose(greeting);
    }
    dprintf(peer,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Length: %d\r\nConnection: close\r\n\r\n%.*s",
            used, used, body);
}

/* Tells the service manager, where there is one, that requests are answered now. */
static void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t length = path ? strlen(path) : 0;
    int fd;

    if (length == 0 || length >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, length);
    if (to.sun_path[0] == '@')
        to.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

int main(void)
{
    const char *given = getenv("HELLO_PORT");
    int port = given ? atoi(given) : 8080;
    int fd;

    if (port < 1 || port > 65535) {
        fprintf(stderr, "hello-server: HELLO_PORT is not a port: %s\n", given);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    fd = listen_on((unsigned short)port);
    if (fd < 0) {
        fprintf(stderr, "hello-server: port %d: %s\n", port, strerror(errno));
        return 1;
    }
    printf("hello %s listens on port %d\n", VERSION, port);
    fflush(stdout);
    notify_ready();
    for (;;) {
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0)
            continue;
        if (read_request(peer) == 0)
            answer(peer);
        close(peer);
    }
}
