/* Handles: what the host holds of our objects. A handle is a number that is given out once and never again, so that a
 * closed one, one of another kind and no handle at all are refused, not followed. */
#ifndef SIMCAM_HANDLES_H
#define SIMCAM_HANDLES_H

#include <stdbool.h>

#include "gentl.h"

enum kind { KIND_SYSTEM, KIND_INTERFACE, KIND_DEVICE, KIND_REMOTE, KIND_STREAM, KIND_EVENT };

/* A handle in use: its object stays until the end of the block. The object is NULL where the handle is none. */
struct held {
    struct handle *of;
    void *object;
};
#define HELD __attribute__((cleanup(handle_let_go))) struct held

HANDLE handle_new(void); /* a number for a thing that is not in this table: a buffer */
/* Of each object there is one handle of a kind; GC_ERR_RESOURCE_IN_USE if it is there already, or not yet gone. */
int handle_make(enum kind kind, void *object, HANDLE *made);
struct held handle_hold(HANDLE handle, enum kind kind);
void handle_let_go(struct held *held);
HANDLE handle_of(enum kind kind, const void *object); /* NULL if there is none */
/* Some handle of this kind whose object fits with something; NULL if there is none. */
HANDLE handle_where(enum kind kind, bool (*fits)(const void *object, const void *with), const void *with);

/* Closing. The first who retires a handle has it for himself: nobody else can hold it any more. He waits until nobody
 * does; what blocks in a call is ended by `end_waits`, again and again. When all is closed he drops the handle. */
struct handle *handle_retire(HANDLE handle, enum kind kind); /* NULL: it is none, or another thread closes it */
void *handle_object(const struct handle *retired);
void handle_drain(struct handle *retired, void (*end_waits)(void *object));
void handle_drop(struct handle *retired);
/* Retires, drains and drops an object's handle; if another thread closes it, waits for that. False if there is none. */
bool handle_end(enum kind kind, const void *object, void (*end_waits)(void *object));

#endif
