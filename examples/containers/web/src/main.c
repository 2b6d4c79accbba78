/* Answers every HTTP request on port 8080 with the file /page. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(8080) };
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    char text[4096], request[4096];
    FILE *page = fopen("/page", "r");
    size_t size = page ? fread(text, 1, sizeof text, page) : 0;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 16) != 0) {
        perror("port 8080");
        return 1;
    }
    for (;;) {
        int peer = accept(fd, NULL, NULL);
        if (peer < 0)
            continue;
        if (read(peer, request, sizeof request) > 0)
            dprintf(peer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%.*s",
                    size, (int)size, text);
        close(peer);
    }
}
