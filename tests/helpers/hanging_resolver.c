/* A resolver that hangs for names that end in .hang, for LD_PRELOAD. The file $HANGING_MARK shows that it was
   asked. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static int (*original)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    const char *mark = getenv("HANGING_MARK");
    size_t length = node == NULL ? 0 : strlen(node);

    if (length > 5 && strcmp(node + length - 5, ".hang") == 0) {
        if (mark != NULL)
            close(open(mark, O_CREAT | O_WRONLY, 0600));
        for (;;)
            pause();
    }
    if (original == NULL)
        original = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");
    return original(node, service, hints, found);
}
