#define _GNU_SOURCE
#include "handles.h"

#include <pthread.h>
#include <time.h>

#include "device.h"

#define MAX_HANDLES 512 /* of 64 cameras no more than four each are open; some may be on their way out */

struct handle {
    HANDLE number; /* NULL: nobody can hold it any more, or never could */
    enum kind kind;
    void *object; /* NULL: the place is free */
    unsigned holders;
};

static struct handle handles[MAX_HANDLES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The host may load this library anew and still hold numbers of before: they begin where the clock stands, which runs
 * faster than they are used up. */
static uintptr_t next_number(void) {
    static uintptr_t last;
    if (!last) last = (uintptr_t)now_ns();
    return ++last;
}

HANDLE handle_new(void) {
    pthread_mutex_lock(&lock);
    HANDLE number = (HANDLE)next_number();
    pthread_mutex_unlock(&lock);
    return number;
}

int handle_make(enum kind kind, void *object, HANDLE *made) {
    struct handle *place = NULL;
    int error = GC_ERR_SUCCESS;
    pthread_mutex_lock(&lock);
    for (struct handle *h = handles; h < handles + MAX_HANDLES; h++) {
        if (h->object == object && h->kind == kind) error = GC_ERR_RESOURCE_IN_USE;
        if (!h->object && !place) place = h;
    }
    if (!error && !place) error = GC_ERR_OUT_OF_MEMORY;
    if (!error) {
        *place = (struct handle){(HANDLE)next_number(), kind, object, 0};
        *made = place->number;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

/* Under the lock. */
static struct handle *find(HANDLE number, enum kind kind) {
    for (struct handle *h = handles; number && h < handles + MAX_HANDLES; h++)
        if (h->number == number && h->kind == kind) return h;
    return NULL;
}

struct held handle_hold(HANDLE number, enum kind kind) {
    struct held held = {NULL, NULL};
    pthread_mutex_lock(&lock);
    held.of = find(number, kind);
    if (held.of) {
        held.of->holders++;
        held.object = held.of->object;
    }
    pthread_mutex_unlock(&lock);
    return held;
}

void handle_let_go(struct held *held) {
    if (!held->of) return;
    pthread_mutex_lock(&lock);
    held->of->holders--;
    pthread_mutex_unlock(&lock);
}

HANDLE handle_where(enum kind kind, bool (*fits)(const void *object, const void *with), const void *with) {
    HANDLE number = NULL;
    pthread_mutex_lock(&lock);
    for (const struct handle *h = handles; !number && h < handles + MAX_HANDLES; h++)
        if (h->kind == kind && h->number && fits(h->object, with)) number = h->number;
    pthread_mutex_unlock(&lock);
    return number;
}

static bool is_same(const void *object, const void *with) { return object == with; }

HANDLE handle_of(enum kind kind, const void *object) { return handle_where(kind, is_same, object); }

struct handle *handle_retire(HANDLE number, enum kind kind) {
    pthread_mutex_lock(&lock);
    struct handle *handle = find(number, kind);
    if (handle) handle->number = NULL;
    pthread_mutex_unlock(&lock);
    return handle;
}

void *handle_object(const struct handle *retired) { return retired->object; }

static void pause_a_moment(void) { nanosleep(&(struct timespec){0, 1000000}, NULL); }

void handle_drain(struct handle *retired, void (*end_waits)(void *object)) {
    pthread_mutex_lock(&lock);
    while (retired->holders) {
        pthread_mutex_unlock(&lock);
        if (end_waits) end_waits(retired->object);
        pause_a_moment();
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
}

void handle_drop(struct handle *retired) {
    pthread_mutex_lock(&lock);
    retired->object = NULL;
    pthread_mutex_unlock(&lock);
}

/* An object's handle; NULL if it has none. Under the lock. */
static struct handle *find_of(enum kind kind, const void *object) {
    for (struct handle *h = handles; h < handles + MAX_HANDLES; h++)
        if (h->kind == kind && h->object == object) return h;
    return NULL;
}

bool handle_end(enum kind kind, const void *object, void (*end_waits)(void *object)) {
    pthread_mutex_lock(&lock);
    struct handle *handle = find_of(kind, object);
    bool is_ours = handle && handle->number;
    if (is_ours) handle->number = NULL;
    while (!is_ours && find_of(kind, object)) {
        pthread_mutex_unlock(&lock);
        pause_a_moment();
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    if (is_ours) {
        handle_drain(handle, end_waits);
        handle_drop(handle);
    }
    return is_ours;
}
