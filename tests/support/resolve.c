/* Loaded into the program by a test: every host below `.test` is this machine, so that buckets can be
 * named in hosts without a name server. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    resolver *next = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = host ? strlen(host) : 0;
    if (length > 5 && strcmp(host + length - 5, ".test") == 0) host = "127.0.0.1";
    return next(host, service, hints, found);
}
