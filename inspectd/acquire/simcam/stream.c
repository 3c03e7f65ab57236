#define _GNU_SOURCE
#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_NS 20000000u /* the thread looks at everything at least so often */

void stream_init(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    pthread_condattr_t attributes;
    memset(stream, 0, sizeof *stream);
    pthread_mutex_init(&stream->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&stream->ready, &attributes);
    pthread_condattr_destroy(&attributes);
}

void stream_close(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    stream_stop(opened);
    while (stream->buffers) stream_revoke(opened, stream->buffers, NULL, NULL);
    pthread_cond_destroy(&stream->ready);
    pthread_mutex_destroy(&stream->lock);
    stream->object.kind = stream->event.kind = KIND_NONE;
}

/* ---- buffers; all under the lock ---- */

static struct buffer *oldest(struct stream *stream, enum buffer_state state) {
    struct buffer *found = NULL;
    for (struct buffer *b = stream->buffers; b; b = b->next)
        if (b->state == state && (!found || b->order < found->order)) found = b;
    return found;
}

static void move(struct stream *stream, struct buffer *buffer, enum buffer_state state) {
    buffer->state = state;
    buffer->order = ++stream->order;
}

static bool knows(const struct stream *stream, const struct buffer *buffer) {
    for (const struct buffer *b = stream->buffers; b; b = b->next)
        if (b == buffer) return true;
    return false;
}

int stream_announce(struct open_camera *opened, void *base, size_t size, void *user, HANDLE *made) {
    struct buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer) return GC_ERR_OUT_OF_MEMORY;
    buffer->is_own = base == NULL;
    buffer->base = base ? base : malloc(size ? size : 1);
    if (!buffer->base) {
        free(buffer);
        return GC_ERR_OUT_OF_MEMORY;
    }
    buffer->object.kind = KIND_BUFFER;
    buffer->user = user;
    buffer->size = size;
    pthread_mutex_lock(&opened->stream.lock);
    buffer->next = opened->stream.buffers;
    opened->stream.buffers = buffer;
    opened->stream.announced++;
    pthread_mutex_unlock(&opened->stream.lock);
    *made = buffer;
    return GC_ERR_SUCCESS;
}

int stream_revoke(struct open_camera *opened, struct buffer *buffer, void **base, void **user) {
    struct stream *stream = &opened->stream;
    int error = GC_ERR_INVALID_BUFFER;
    pthread_mutex_lock(&stream->lock);
    for (struct buffer **at = &stream->buffers; *at; at = &(*at)->next) {
        if (*at != buffer) continue;
        bool is_at_work = buffer->state == QUEUED || buffer->state == FILLING || buffer->state == WAITING;
        error = stream->running && is_at_work ? GC_ERR_BUSY : GC_ERR_SUCCESS;
        if (error) break;
        *at = buffer->next;
        stream->announced--;
        if (base) *base = buffer->is_own ? NULL : buffer->base;
        if (user) *user = buffer->user;
        if (buffer->is_own) free(buffer->base);
        buffer->object.kind = KIND_NONE;
        free(buffer);
        break;
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

int stream_queue(struct open_camera *opened, struct buffer *buffer) {
    struct stream *stream = &opened->stream;
    int error = GC_ERR_INVALID_BUFFER;
    pthread_mutex_lock(&stream->lock);
    if (knows(stream, buffer)) {
        bool is_ours = buffer->state == ANNOUNCED || buffer->state == DELIVERED;
        error = is_ours ? GC_ERR_SUCCESS : GC_ERR_RESOURCE_IN_USE;
        if (!error) move(stream, buffer, QUEUED);
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

/* Which buffers a flush moves, and where to. */
static bool flushed(CMD operation, enum buffer_state from, enum buffer_state *to) {
    switch (operation) {
    case ACQ_QUEUE_INPUT_TO_OUTPUT: *to = WAITING; return from == QUEUED;
    case ACQ_QUEUE_OUTPUT_DISCARD: *to = ANNOUNCED; return from == WAITING;
    case ACQ_QUEUE_ALL_TO_INPUT: *to = QUEUED; return from != FILLING;
    case ACQ_QUEUE_UNQUEUED_TO_INPUT: *to = QUEUED; return from == ANNOUNCED;
    default: *to = ANNOUNCED; return from == QUEUED || from == WAITING;
    }
}

int stream_flush(struct open_camera *opened, CMD operation) {
    struct stream *stream = &opened->stream;
    if (operation < ACQ_QUEUE_INPUT_TO_OUTPUT || operation > ACQ_QUEUE_ALL_DISCARD) return GC_ERR_INVALID_PARAMETER;
    pthread_mutex_lock(&stream->lock);
    for (struct buffer *b = stream->buffers; b; b = b->next) {
        enum buffer_state to;
        if (flushed(operation, b->state, &to)) move(stream, b, to);
    }
    pthread_mutex_unlock(&stream->lock);
    return GC_ERR_SUCCESS;
}

struct buffer *stream_buffer_at(struct open_camera *opened, uint32_t index) {
    pthread_mutex_lock(&opened->stream.lock);
    struct buffer *b = opened->stream.buffers;
    while (b && index--) b = b->next;
    pthread_mutex_unlock(&opened->stream.lock);
    return b;
}

size_t stream_count(struct open_camera *opened, enum buffer_state state) {
    size_t count = 0;
    pthread_mutex_lock(&opened->stream.lock);
    for (const struct buffer *b = opened->stream.buffers; b; b = b->next) count += b->state == state;
    pthread_mutex_unlock(&opened->stream.lock);
    return count;
}

size_t stream_payload_size(const struct open_camera *opened) {
    const struct camera *camera = opened->device.camera;
    size_t picture = picture_size(camera->reg[R_PIXEL_FORMAT], camera->reg[R_WIDTH], camera->reg[R_HEIGHT]);
    return (picture + 7) / 8 * 8 + 8 * CHUNKS;
}

int stream_wait(struct open_camera *opened, uint64_t timeout_ms, struct new_buffer_event *data) {
    struct stream *stream = &opened->stream;
    /* Some 30 years stand for ever: GENTL_INFINITE would overflow. */
    uint64_t until_ns = now_ns() + (timeout_ms < 1000000000000u ? timeout_ms : 1000000000000u) * 1000000u;
    struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
    struct buffer *buffer;
    pthread_mutex_lock(&stream->lock);
    while (!(buffer = oldest(stream, WAITING)) && !stream->kills)
        if (pthread_cond_timedwait(&stream->ready, &stream->lock, &until)) break;
    int error = GC_ERR_TIMEOUT;
    if (stream->kills) {
        stream->kills--;
        error = GC_ERR_ABORT;
    } else if (buffer) {
        move(stream, buffer, DELIVERED);
        stream->delivered++;
        *data = (struct new_buffer_event){buffer, buffer->user};
        error = GC_ERR_SUCCESS;
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

void stream_kill(struct open_camera *opened) {
    pthread_mutex_lock(&opened->stream.lock);
    opened->stream.kills++;
    pthread_cond_broadcast(&opened->stream.ready);
    pthread_mutex_unlock(&opened->stream.lock);
}

int stream_read(struct open_camera *opened, uint64_t address, void *data, size_t size) {
    const struct stream *stream = &opened->stream;
    const uint64_t counts[] = {stream->delivered, stream->lost, stream->underrun, stream->announced};
    if (size != 8 || address % 8 || address / 8 >= sizeof counts / sizeof counts[0]) return GC_ERR_INVALID_ADDRESS;
    memcpy(data, &counts[address / 8], size);
    return GC_ERR_SUCCESS;
}

/* ---- exposures ---- */

/* One of a fault's count is used up; false if there is none. */
static bool take(_Atomic uint64_t *left) {
    uint64_t now = atomic_load(left);
    while (now && !atomic_compare_exchange_weak(left, &now, now - 1)) {}
    return now > 0;
}

static void put_chunks(const struct camera *camera, struct buffer *buffer, uint64_t trigger) {
    uint64_t values[CHUNKS] = {
        [CHUNK_FRAME_ID] = buffer->frame_id,
        [CHUNK_TIMESTAMP] = buffer->timestamp,
        [CHUNK_EXPOSURE_TIME] = camera->reg[R_EXPOSURE_TIME],
        [CHUNK_COUNTER_VALUE] = trigger,
        [CHUNK_ENCODER_VALUE] = trigger * ENCODER_STEP,
    };
    buffer->chunks_at = (picture_size(buffer->pixel_format, buffer->width, buffer->height) + 7) / 8 * 8;
    buffer->has_chunks = camera->reg[R_CHUNK_MODE_ACTIVE] && buffer->chunks_at + sizeof values <= buffer->size;
    if (buffer->has_chunks) memcpy(buffer->base + buffer->chunks_at, values, sizeof values);
}

/* The picture of a trigger into a buffer that is this thread's alone, if it fits and is not there yet. */
static size_t render(struct open_camera *opened, struct buffer *buffer, uint64_t trigger, bool is_identical) {
    const struct camera *camera = opened->device.camera;
    buffer->width = camera->reg[R_WIDTH];
    buffer->height = camera->reg[R_HEIGHT];
    buffer->pixel_format = camera->reg[R_PIXEL_FORMAT];
    size_t size = picture_size(buffer->pixel_format, buffer->width, buffer->height);
    if (size <= buffer->size && (is_identical || buffer->rendered != trigger))
        device_render(&opened->device, trigger - 1 - is_identical, buffer->pixel_format, buffer->width, buffer->height,
                      buffer->base);
    buffer->rendered = is_identical ? 0 : trigger;
    return size;
}

/* While nothing happens the next picture is put where it will be wanted: a camera's transfer costs the host nothing. */
static bool prepare(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = oldest(stream, QUEUED);
    bool is_due = buffer && buffer->rendered != stream->handled + 1;
    if (is_due) buffer->state = FILLING;
    pthread_mutex_unlock(&stream->lock);
    if (!is_due) return false;
    render(opened, buffer, stream->handled + 1, false);
    pthread_mutex_lock(&stream->lock);
    buffer->state = QUEUED; /* where it was in the order */
    pthread_mutex_unlock(&stream->lock);
    return true;
}

static void fill(struct open_camera *opened, struct buffer *buffer, uint64_t trigger, uint64_t at_ns) {
    struct camera *camera = opened->device.camera;
    static const uint64_t ns_per_tick = 1000000000u / TICKS_PER_SECOND;
    bool is_identical = trigger > 1 && take(&camera->identical);
    uint64_t picture = trigger - 1 - is_identical;
    uint64_t device_ns = at_ns + (uint64_t)atomic_load(&camera->clock_offset_ns);
    buffer->frame_id = opened->stream.frame_id;
    buffer->timestamp = camera->timestamp_mode == TIMESTAMP_TICKS ? device_ns / ns_per_tick : device_ns;
    size_t size = render(opened, buffer, trigger, is_identical);
    bool is_bad = size > buffer->size || opened->device.flags[picture % camera->image_count];
    buffer->incomplete = is_bad || take(&camera->incomplete);
    buffer->filled = buffer->incomplete ? size / 2 : size;
    put_chunks(camera, buffer, trigger);
}

/* Trigger number `trigger` becomes a frame, or is lost in one of the ways in which frames get lost. */
static void expose(struct open_camera *opened, uint64_t trigger) {
    struct camera *camera = opened->device.camera;
    struct stream *stream = &opened->stream;
    uint64_t at_ns = atomic_load(&camera->pulse_ns[(trigger - 1) % PULSES]);
    if (atomic_load(&camera->silent)) return; /* connected, and yet it exposes nothing any more */
    atomic_fetch_add(&camera->exposures, 1);
    struct timespec end = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)};
    end.tv_nsec += (long)(reg_double(camera, R_EXPOSURE_TIME) * 1000.0);
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
    stream->frame_id++;
    if (take(&camera->drop)) {
        stream->lost++;
        return;
    }
    bool starves = now_ns() < atomic_load(&camera->starve_until_ns);
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = starves ? NULL : oldest(stream, QUEUED);
    if (buffer) buffer->state = FILLING;
    else stream->underrun++;
    pthread_mutex_unlock(&stream->lock);
    if (!buffer) return;
    fill(opened, buffer, trigger, at_ns);
    buffer->rendered = 0; /* the host may do with it what it likes */
    pthread_mutex_lock(&stream->lock);
    move(stream, buffer, WAITING);
    pthread_cond_broadcast(&stream->ready);
    pthread_mutex_unlock(&stream->lock);
}

/* In free run the camera triggers itself. */
static void run_free(struct open_camera *opened) {
    struct camera *camera = opened->device.camera;
    uint64_t period_ns = (uint64_t)(1e9 / reg_double(camera, R_FRAME_RATE));
    uint64_t now = now_ns();
    if (!opened->stream.next_ns) opened->stream.next_ns = now + period_ns;
    if (now < opened->stream.next_ns) return;
    device_trigger(camera, opened->stream.next_ns);
    opened->stream.next_ns += period_ns;
}

static void *acquire(void *argument) {
    struct open_camera *opened = argument;
    struct camera *camera = opened->device.camera;
    struct stream *stream = &opened->stream;
    pthread_mutex_lock(&stream->lock);
    while (!stream->stopping) {
        bool works = stream->exposing && device_alive(&opened->device);
        bool is_free = works && !camera->reg[R_TRIGGER_MODE];
        pthread_mutex_unlock(&stream->lock);
        uint32_t wake = atomic_load(&camera->wake);
        if (is_free) run_free(opened);
        /* A counter that was set back or far ahead has not counted triggers: nothing is exposed for that. */
        if (works && atomic_load(&camera->counter) - stream->handled > PULSES)
            stream->handled = atomic_load(&camera->counter);
        if (works && stream->handled < atomic_load(&camera->counter)) {
            expose(opened, ++stream->handled);
        } else if (!works || !prepare(opened)) {
            uint64_t until = now_ns() + LOOK_NS;
            device_sleep(camera, wake, is_free && stream->next_ns < until ? stream->next_ns : until);
        }
        pthread_mutex_lock(&stream->lock);
    }
    pthread_mutex_unlock(&stream->lock);
    return NULL;
}

int stream_start(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    if (!device_alive(&opened->device)) return GC_ERR_IO;
    if (stream->running) return GC_ERR_RESOURCE_IN_USE;
    stream->frame_id = 0; /* begins anew at every start, as most cameras' do */
    stream->stopping = false;
    stream->kills = 0;
    for (struct buffer *b = stream->buffers; b; b = b->next) b->rendered = 0; /* the format may be another one */
    if (pthread_create(&stream->thread, NULL, acquire, opened)) return GC_ERR_OUT_OF_MEMORY;
    stream->running = true;
    return GC_ERR_SUCCESS;
}

void stream_stop(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    if (!stream->running) return;
    stream_expose(opened, false);
    pthread_mutex_lock(&stream->lock);
    stream->stopping = true;
    pthread_mutex_unlock(&stream->lock);
    simcam_wake(opened->device.camera);
    pthread_join(stream->thread, NULL);
    stream->running = false;
}

void stream_expose(struct open_camera *opened, bool on) {
    struct stream *stream = &opened->stream;
    struct camera *camera = opened->device.camera;
    pthread_mutex_lock(&stream->lock);
    if (on && !stream->exposing) {
        stream->handled = atomic_load(&camera->counter);
        stream->next_ns = 0;
        atomic_store(&camera->silent, 0); /* a new start helps */
    }
    stream->exposing = on;
    pthread_mutex_unlock(&stream->lock);
    simcam_wake(camera);
}

void stream_software_trigger(struct open_camera *opened) {
    struct camera *camera = opened->device.camera;
    bool listens = camera->reg[R_TRIGGER_MODE] && camera->reg[R_TRIGGER_SOURCE] == TRIGGER_SOURCE_SOFTWARE;
    if (!listens || !opened->stream.exposing) return; /* a camera that does not wait for it does not hear it */
    device_trigger(camera, now_ns());
    simcam_wake(camera);
}
