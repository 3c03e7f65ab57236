/* An open camera: its acquisition thread, and the way of its buffers. */
#ifndef SIMCAM_STREAM_H
#define SIMCAM_STREAM_H

#include <limits.h>
#include <pthread.h>

#include "device.h"
#include "gentl.h"

/* Chunks, behind the picture, 8 bytes each, in this order. */
enum { CHUNK_FRAME_ID, CHUNK_TIMESTAMP, CHUNK_EXPOSURE_TIME, CHUNK_COUNTER_VALUE, CHUNK_ENCODER_VALUE, CHUNKS };
#define CHUNK_IDS 0x51CA0000u

enum buffer_state { ANNOUNCED, QUEUED, FILLING, WAITING, DELIVERED }; /* WAITING: filled, not fetched yet */
struct buffer {
    HANDLE handle;
    enum buffer_state state;
    uint64_t order; /* of queueing or filling: the lowest is the oldest */
    uint8_t *base;
    void *user;
    size_t size, filled, chunks_at;
    bool is_own, incomplete, has_chunks, has_no_id;
    uint64_t frame_id, timestamp, width, height, pixel_format;
    uint64_t lines;    /* that were delivered, of the height */
    uint64_t padding;  /* that is told, of each line */
    uint64_t rendered; /* it holds the picture of this trigger already; 0 = none */
    uint64_t shown;    /* it was last filled with the picture of this trigger; 0 = never */
    struct buffer *next;
};

struct stream {
    pthread_mutex_t lock;
    pthread_cond_t ready; /* a buffer waits, or somebody must stop waiting */
    pthread_t thread;
    _Atomic bool running;
    bool exposing, stopping;
    uint64_t wanted; /* so many frames until it stops by itself; UINT64_MAX: it does not; 0: it has */
    uint64_t waiting; /* threads in stream_wait */
    uint64_t kills;   /* calls of EventKill: each ends one wait */
    struct buffer *buffers;
    uint64_t order;
    _Atomic uint64_t announced, started, delivered, underrun, lost; /* told to whoever asks */
    uint64_t handled;   /* the counter's value up to which all triggers are exposed */
    uint64_t latest_ns; /* when the last of them came, or the exposing began */
    uint64_t next_ns;   /* the next exposure in free run */
    uint64_t exposed_ns, busy_until_ns; /* the last exposure's begin and end; for the thread alone, as what follows */
    struct buffer *held; /* filled, to be delivered after the next frame */
};

struct open_camera {
    struct device device;
    char id[NAME_MAX + 1];
    struct stream stream;
    const void *interface; /* that it was opened through */
    pthread_mutex_t starting; /* one call at a time starts or stops it */
};

/* All give a GenTL error code where they give an int. */
void stream_init(struct open_camera *opened);
void stream_close(struct open_camera *opened); /* stops, and forgets the buffers */
int stream_start(struct open_camera *opened, uint64_t frames); /* it stops by itself after so many */
bool stream_is_running(struct open_camera *opened);
void stream_stop(struct open_camera *opened);
void stream_expose(struct open_camera *opened, bool on); /* AcquisitionStart, AcquisitionStop */
void stream_software_trigger(struct open_camera *opened);
int stream_wait(struct open_camera *opened, uint64_t timeout_ms, struct new_buffer_event *data);
void stream_kill(struct open_camera *opened);
void stream_end_waits(struct open_camera *opened); /* all of them; gone when it returns */
int stream_announce(struct open_camera *opened, void *base, size_t size, void *user, HANDLE *buffer);
int stream_revoke(struct open_camera *opened, HANDLE buffer, void **base, void **user);
int stream_queue(struct open_camera *opened, HANDLE buffer);
int stream_flush(struct open_camera *opened, CMD operation);
HANDLE stream_buffer_at(struct open_camera *opened, uint32_t index); /* NULL if there is none */
size_t stream_count(struct open_camera *opened, enum buffer_state state); /* QUEUED: with what is being filled */
/* How a buffer is now; false if it is none of this stream's. While it is being filled nothing is known of its frame. */
bool stream_look(struct open_camera *opened, HANDLE buffer, struct buffer *seen);
size_t stream_payload_size(const struct open_camera *opened); /* of a whole frame with its chunks */
size_t stream_size_filled(const struct buffer *buffer);      /* of what came of it, with its chunks */
int stream_read(struct open_camera *opened, uint64_t address, void *data, size_t size); /* registers of stream.xml */

#endif
