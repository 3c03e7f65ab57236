#define _GNU_SOURCE
#include "stream.h"

#include "handles.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define STRAY_NS 5000000u      /* so long before a trigger, or half as long as since the one before */
#define LOOK_NS 20000000u      /* the thread looks at everything at least so often */
#define PREPARE_AFTER_NS 3000000u
#define SWAPPED_NS 1000000000u /* two triggers at once may be so far out of order, on a machine that has much to do */

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
    stream_end_waits(opened);
    while (stream->buffers) stream_revoke(opened, stream->buffers->handle, NULL, NULL);
    pthread_cond_destroy(&stream->ready);
    pthread_mutex_destroy(&stream->lock);
}

/* ---- buffers; all under the lock ---- */

static struct buffer *oldest(struct stream *stream, enum buffer_state state) {
    struct buffer *found = NULL;
    for (struct buffer *b = stream->buffers; b; b = b->next)
        if (b->state == state && (!found || b->order < found->order)) found = b;
    return found;
}

/* The one to fill next: the pool has no order, and what came back last is still in the processor's cache. */
static struct buffer *free_buffer(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    struct buffer *found = NULL;
    if (opened->device.camera->faults.oldest_first) return oldest(stream, QUEUED);
    for (struct buffer *b = stream->buffers; b; b = b->next)
        if (b->state == QUEUED && (!found || b->order > found->order)) found = b;
    return found;
}

static void move(struct stream *stream, struct buffer *buffer, enum buffer_state state) {
    buffer->state = state;
    if (state == QUEUED) buffer->rendered = 0; /* the host may have written into it */
    buffer->order = ++stream->order;
}

/* The buffer of a handle, which may be of one that was revoked; NULL if there is none. */
static struct buffer *known(const struct stream *stream, HANDLE handle) {
    struct buffer *b = stream->buffers;
    while (b && b->handle != handle) b = b->next;
    return b;
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
    buffer->handle = handle_new();
    buffer->user = user;
    buffer->size = size;
    pthread_mutex_lock(&opened->stream.lock);
    struct buffer **end = &opened->stream.buffers;
    while (*end) end = &(*end)->next;
    *end = buffer; /* the index of the others stays theirs */
    opened->stream.announced++;
    *made = buffer->handle;
    pthread_mutex_unlock(&opened->stream.lock);
    return GC_ERR_SUCCESS;
}

int stream_revoke(struct open_camera *opened, HANDLE handle, void **base, void **user) {
    struct stream *stream = &opened->stream;
    int error = GC_ERR_INVALID_HANDLE;
    pthread_mutex_lock(&stream->lock);
    for (struct buffer **at = &stream->buffers; *at; at = &(*at)->next) {
        struct buffer *buffer = *at;
        if (buffer->handle != handle) continue;
        bool is_at_work = buffer->state == QUEUED || buffer->state == FILLING || buffer->state == WAITING;
        error = stream->running && stream->wanted && is_at_work ? GC_ERR_BUSY : GC_ERR_SUCCESS;
        if (error) break;
        *at = buffer->next;
        stream->announced--;
        if (base) *base = buffer->is_own ? NULL : buffer->base;
        if (user) *user = buffer->user;
        if (buffer->is_own) free(buffer->base);
        free(buffer);
        break;
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

int stream_queue(struct open_camera *opened, HANDLE handle) {
    struct stream *stream = &opened->stream;
    int error = GC_ERR_INVALID_HANDLE;
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = known(stream, handle);
    if (buffer) {
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
    case ACQ_QUEUE_UNQUEUED_TO_INPUT: *to = QUEUED; return from == ANNOUNCED || from == DELIVERED;
    default: *to = ANNOUNCED; return from == QUEUED || from == WAITING;
    }
}

int stream_flush(struct open_camera *opened, CMD operation) {
    struct stream *stream = &opened->stream;
    if (operation < ACQ_QUEUE_INPUT_TO_OUTPUT || operation > ACQ_QUEUE_ALL_DISCARD) return GC_ERR_INVALID_PARAMETER;
    pthread_mutex_lock(&stream->lock);
    for (struct buffer *b = stream->buffers; b; b = b->next) {
        enum buffer_state to;
        if (!flushed(operation, b->state, &to)) continue;
        move(stream, b, to);
        if (to != WAITING) continue;
        b->filled = 0; /* nothing was put into it since it was queued */
        b->incomplete = true;
        b->has_chunks = false;
        pthread_cond_broadcast(&stream->ready);
    }
    pthread_mutex_unlock(&stream->lock);
    return GC_ERR_SUCCESS;
}

HANDLE stream_buffer_at(struct open_camera *opened, uint32_t index) {
    pthread_mutex_lock(&opened->stream.lock);
    const struct buffer *b = opened->stream.buffers;
    while (b && index--) b = b->next;
    HANDLE handle = b ? b->handle : NULL;
    pthread_mutex_unlock(&opened->stream.lock);
    return handle;
}

size_t stream_count(struct open_camera *opened, enum buffer_state state) {
    size_t count = 0;
    pthread_mutex_lock(&opened->stream.lock);
    for (const struct buffer *b = opened->stream.buffers; b; b = b->next)
        count += b->state == state || (b->state == FILLING && state == QUEUED);
    pthread_mutex_unlock(&opened->stream.lock);
    return count;
}

bool stream_look(struct open_camera *opened, HANDLE handle, struct buffer *seen) {
    pthread_mutex_lock(&opened->stream.lock);
    const struct buffer *b = known(&opened->stream, handle);
    if (b && b->state == FILLING)
        *seen = (struct buffer){.state = FILLING, .base = b->base, .user = b->user, .size = b->size};
    else if (b)
        *seen = *b;
    pthread_mutex_unlock(&opened->stream.lock);
    return b != NULL;
}

/* Chunks stand behind the picture, at whole words. */
static size_t with_chunks(size_t picture) { return (picture + 7) / 8 * 8 + 8 * CHUNKS; }

size_t stream_size_filled(const struct buffer *buffer) {
    return buffer->has_chunks ? with_chunks(buffer->filled) : buffer->filled;
}

size_t stream_payload_size(const struct open_camera *opened) {
    const struct camera *camera = opened->device.camera;
    size_t picture = sent_size(camera, camera->reg[R_PIXEL_FORMAT], camera->reg[R_WIDTH], camera->reg[R_HEIGHT]);
    return camera->reg[R_CHUNK_MODE_ACTIVE] ? with_chunks(picture) : picture;
}

int stream_wait(struct open_camera *opened, uint64_t timeout_ms, struct new_buffer_event *data) {
    struct stream *stream = &opened->stream;
    /* Some 30 years stand for ever: GENTL_INFINITE would overflow. */
    uint64_t until_ns = now_ns() + (timeout_ms < 1000000000000u ? timeout_ms : 1000000000000u) * 1000000u;
    struct timespec until = timespec_of(until_ns);
    struct buffer *buffer;
    pthread_mutex_lock(&stream->lock);
    stream->waiting++;
    while (!(buffer = oldest(stream, WAITING)) && !stream->kills)
        if (pthread_cond_timedwait(&stream->ready, &stream->lock, &until)) break;
    int error = GC_ERR_TIMEOUT;
    if (stream->kills) {
        stream->kills--;
        error = GC_ERR_ABORT;
    } else if (buffer) {
        move(stream, buffer, DELIVERED);
        stream->delivered++;
        *data = (struct new_buffer_event){buffer->handle, buffer->user};
        error = GC_ERR_SUCCESS;
    }
    if (!--stream->waiting) pthread_cond_broadcast(&stream->ready); /* to stream_end_waits */
    pthread_mutex_unlock(&stream->lock);
    return error;
}

void stream_end_waits(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    pthread_mutex_lock(&stream->lock);
    while (stream->waiting) {
        stream->kills = stream->waiting;
        pthread_cond_broadcast(&stream->ready);
        pthread_cond_wait(&stream->ready, &stream->lock);
    }
    stream->kills = 0;
    pthread_mutex_unlock(&stream->lock);
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

/* ---- exposures; all by the thread alone ---- */

/* A frame that the camera makes. */
struct frame {
    uint64_t picture; /* number of the trigger whose picture it shows */
    uint64_t counter; /* triggers when it was exposed: with its own, if it has one */
    uint64_t at_ns, id;
    uint32_t effects;
};

static bool has(const struct frame *frame, enum effect effect) { return frame->effects >> effect & 1; }

static void put_chunks(const struct camera *camera, struct buffer *buffer, const struct frame *frame) {
    uint64_t values[CHUNKS] = {
        [CHUNK_FRAME_ID] = buffer->frame_id,
        [CHUNK_TIMESTAMP] = buffer->timestamp,
        [CHUNK_EXPOSURE_TIME] = camera->reg[R_EXPOSURE_TIME],
        [CHUNK_COUNTER_VALUE] = faults_counter(&camera->faults, frame->counter),
        [CHUNK_ENCODER_VALUE] = device_encoder(camera, frame->counter),
    };
    bool is_sent = camera->reg[R_CHUNK_MODE_ACTIVE] && !has(frame, EFFECT_NO_CHUNKS);
    size_t whole = sent_size(camera, buffer->pixel_format, buffer->width, buffer->height);
    buffer->chunks_at = ((buffer->incomplete ? whole : buffer->filled) + 7) / 8 * 8; /* behind what was sent */
    buffer->has_chunks = is_sent && buffer->chunks_at + sizeof values <= buffer->size;
    if (buffer->has_chunks) memcpy(buffer->base + buffer->chunks_at, values, sizeof values);
}

/* The picture of a trigger into a buffer that is this thread's alone, if it fits and is not there yet. Of a short one
 * the upper lines: below them there is what was there before. */
static size_t render(struct open_camera *opened, struct buffer *buffer, uint64_t trigger, bool is_short) {
    const struct camera *camera = opened->device.camera;
    uint64_t width = camera->reg[R_WIDTH], height = camera->reg[R_HEIGHT], format = camera->reg[R_PIXEL_FORMAT];
    bool is_there = buffer->rendered == trigger && buffer->width == width && buffer->height == height &&
                    buffer->pixel_format == format && !is_short;
    size_t size = sent_size(camera, format, width, height);
    buffer->width = width;
    buffer->height = height;
    buffer->lines = is_short ? height / 2 : height;
    buffer->pixel_format = format;
    buffer->rendered = is_short ? 0 : trigger;
    if (size > buffer->size || is_there) return size;
    if (is_short && buffer->shown) device_render(&opened->device, buffer->shown - 1, format, width, height, buffer->base);
    else if (is_short) memset(buffer->base, 0, size);
    device_render(&opened->device, trigger - 1, format, width, buffer->lines, buffer->base);
    return size;
}

/* While nothing happens the next picture is put where it will be wanted: a camera's transfer costs the host nothing. */
static bool prepare(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = free_buffer(opened);
    uint64_t trigger = stream->handled + 1;
    bool is_due = buffer && buffer->rendered != trigger;
    if (is_due) buffer->state = FILLING;
    pthread_mutex_unlock(&stream->lock);
    if (!is_due) return false;
    render(opened, buffer, trigger, false);
    pthread_mutex_lock(&stream->lock);
    buffer->state = QUEUED; /* where it was in the order */
    pthread_mutex_unlock(&stream->lock);
    return true;
}

static void fill(struct open_camera *opened, struct buffer *buffer, const struct frame *frame) {
    const struct camera *camera = opened->device.camera;
    const struct faults *faults = &camera->faults;
    bool is_short = has(frame, EFFECT_SHORT);
    buffer->frame_id = frame->id;
    buffer->has_no_id = has(frame, EFFECT_NO_ID) || faults->id_kind == IDS_ABSENT;
    buffer->timestamp = frame_time(camera, frame->at_ns);
    buffer->padding = faults->padding_is_told ? faults->padding : 0;
    size_t size = render(opened, buffer, frame->picture, is_short);
    bool is_bad = size > buffer->size || opened->device.flags[(frame->picture - 1) % camera->image_count];
    buffer->incomplete = is_bad || has(frame, EFFECT_INCOMPLETE);
    size_t sent = size;
    if (buffer->incomplete) sent = size / 2;
    else if (is_short && faults->short_tells != SHORT_TELLS_LINES)
        sent = sent_size(camera, buffer->pixel_format, buffer->width, buffer->lines);
    buffer->filled = sent < buffer->size ? sent : buffer->size;
    if (faults->short_tells == SHORT_TELLS_SIZE) buffer->lines = buffer->height;
    buffer->shown = frame->picture;
    put_chunks(camera, buffer, frame);
}

/* A buffer to fill, this thread's alone until it is delivered; NULL if there is none. */
static struct buffer *begin(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    bool starves = now_ns() < atomic_load(&opened->device.camera->faults.starve_until_ns);
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = starves ? NULL : free_buffer(opened);
    if (buffer) buffer->state = FILLING;
    else stream->underrun++;
    pthread_mutex_unlock(&stream->lock);
    return buffer;
}

static void hand_over(struct stream *stream, struct buffer *buffer, enum buffer_state to) {
    pthread_mutex_lock(&stream->lock);
    move(stream, buffer, to);
    if (to == WAITING && stream->wanted && stream->wanted != UINT64_MAX) stream->wanted--;
    pthread_cond_broadcast(&stream->ready);
    pthread_mutex_unlock(&stream->lock);
}

/* What was held back is not held back any more: of a camera that is gone it does not come. */
static void release(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    if (!stream->held) return;
    hand_over(stream, stream->held, device_alive(&opened->device) ? WAITING : QUEUED);
    stream->held = NULL;
}

static void deliver(struct open_camera *opened, const struct frame *frame) {
    struct stream *stream = &opened->stream;
    struct buffer *late = stream->held;
    stream->held = NULL;
    for (int copies = has(frame, EFFECT_TWICE) ? 2 : 1; copies; copies--) {
        struct buffer *buffer = begin(opened);
        if (!buffer) continue;
        fill(opened, buffer, frame);
        if (has(frame, EFFECT_SWAPPED) && !late && !stream->held) stream->held = buffer;
        else hand_over(stream, buffer, WAITING);
    }
    if (late) hand_over(stream, late, WAITING);
}

/* The camera begins to send a frame: it gets an id. */
static void give_id(struct open_camera *opened, struct frame *frame) {
    const struct faults *faults = &opened->device.camera->faults;
    frame->id = faults_id(faults, ++opened->stream.started);
    if (has(frame, EFFECT_WRONG_ID)) frame->id = faults->wrong_id;
    atomic_fetch_add(&opened->device.camera->exposures, 1);
}

/* A frame that nobody triggered, beside trigger number `beside` (0: there was none yet). It shows the picture of a
 * trigger far away, and one that is clean where every other picture is and its neighbour's is not. */
static void expose_stray(struct open_camera *opened, uint64_t beside, uint64_t counter, uint64_t at_ns) {
    uint64_t pictures = opened->device.camera->image_count;
    struct frame frame = {.picture = beside + pictures + (pictures / 2 | 1), .counter = counter, .at_ns = at_ns};
    opened->stream.exposed_ns = at_ns;
    give_id(opened, &frame);
    deliver(opened, &frame);
}

/* Trigger number `trigger` becomes a frame, or is lost in one of the ways in which frames get lost. */
static void expose(struct open_camera *opened, uint64_t trigger, uint64_t at_ns) {
    struct camera *camera = opened->device.camera;
    struct stream *stream = &opened->stream;
    struct faults *faults = &camera->faults;
    if (atomic_load(&faults->silent)) return; /* connected, and yet it exposes nothing any more */
    struct frame frame = {.picture = trigger, .counter = trigger, .at_ns = at_ns, .effects = faults_of(faults, trigger)};
    uint64_t end_ns = at_ns + (uint64_t)(reg_double(camera, R_EXPOSURE_TIME) * 1000.0);
    if (has(&frame, EFFECT_UNPLUGGED)) device_unplug(camera, faults->cable_ns);
    bool is_busy = faults->misses_while_exposing && at_ns < stream->busy_until_ns;
    if (is_busy || has(&frame, EFFECT_MISSED) || has(&frame, EFFECT_UNPLUGGED)) return;
    if (has(&frame, EFFECT_STRAY_BEFORE)) {
        uint64_t since_ns = at_ns - stream->exposed_ns;
        expose_stray(opened, trigger, trigger - 1, at_ns - (since_ns < 2 * STRAY_NS ? since_ns / 2 : STRAY_NS));
    }
    stream->exposed_ns = at_ns;
    stream->busy_until_ns = end_ns;
    struct timespec end = timespec_of(end_ns);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
    if (has(&frame, EFFECT_IDENTICAL)) frame.picture += camera->image_count - 1; /* the one before, whichever that is */
    give_id(opened, &frame);
    if (has(&frame, EFFECT_DROPPED)) stream->lost++;
    else deliver(opened, &frame);
    if (has(&frame, EFFECT_STRAY_AFTER)) expose_stray(opened, trigger, trigger, end_ns);
}

/* In free run the camera triggers itself. Under the lock. */
static void run_free(struct open_camera *opened) {
    struct camera *camera = opened->device.camera;
    uint64_t period_ns = device_period_ns(camera);
    uint64_t now = now_ns();
    if (!opened->stream.next_ns) opened->stream.next_ns = now + period_ns;
    if (now < opened->stream.next_ns) return;
    device_trigger(camera, opened->stream.next_ns);
    opened->stream.next_ns += period_ns;
}

/* The number of the next trigger to expose; 0 if there is none. Under the lock.
 * A counter that jumped has not counted triggers: nothing is exposed for that. It shows by too many at once, or by
 * their times, which are none or of long ago. */
static uint64_t next_trigger(struct open_camera *opened, uint64_t *at_ns) {
    struct stream *stream = &opened->stream;
    struct camera *camera = opened->device.camera;
    uint64_t counter = atomic_load(&camera->counter);
    if (counter - stream->handled > PULSES) stream->handled = counter; /* set back as well */
    while (stream->handled < counter) {
        *at_ns = atomic_exchange(&camera->pulse_ns[stream->handled++ % PULSES], 0);
        if (*at_ns + SWAPPED_NS < stream->latest_ns) continue;
        if (*at_ns > stream->latest_ns) stream->latest_ns = *at_ns;
        return stream->handled;
    }
    return 0;
}

static void *acquire(void *argument) {
    struct open_camera *opened = argument;
    struct camera *camera = opened->device.camera;
    struct stream *stream = &opened->stream;
    bool has_exposed = false;
    prctl(PR_SET_TIMERSLACK, 1000ul); /* a camera's exposure takes as long as it is set to, not 50 us more */
    pthread_mutex_lock(&stream->lock);
    for (;;) {
        uint32_t wake = atomic_load(&camera->wake); /* before anything is looked at: what comes later ends the sleep */
        if (stream->stopping || !stream->wanted) break;
        bool works = stream->exposing && device_alive(&opened->device);
        bool is_free = works && !camera->reg[R_TRIGGER_MODE];
        if (is_free) run_free(opened);
        uint64_t at_ns = 0, trigger = works ? next_trigger(opened, &at_ns) : 0;
        bool strays = works && !trigger && !camera->faults.silent && faults_take(&camera->faults.stray);
        uint64_t until_ns = now_ns() + LOOK_NS, soon_ns = now_ns() + PREPARE_AFTER_NS;
        if (is_free && stream->next_ns < until_ns) until_ns = stream->next_ns;
        uint64_t handled = stream->handled;
        pthread_mutex_unlock(&stream->lock);
        faults_chatter(&camera->faults);
        if (!works) release(opened);
        if (trigger) expose(opened, trigger, at_ns);
        else if (strays) expose_stray(opened, handled, handled, now_ns());
        /* Rendering would keep the processor from whoever the frame just woke: not at once. */
        else if (has_exposed) device_sleep(camera, wake, soon_ns < until_ns ? soon_ns : until_ns);
        else if (!works || !prepare(opened)) device_sleep(camera, wake, until_ns);
        has_exposed = trigger || strays;
        pthread_mutex_lock(&stream->lock);
    }
    pthread_mutex_unlock(&stream->lock);
    release(opened);
    return NULL;
}

bool stream_is_running(struct open_camera *opened) {
    pthread_mutex_lock(&opened->stream.lock);
    bool is_running = opened->stream.running && opened->stream.wanted;
    pthread_mutex_unlock(&opened->stream.lock);
    return is_running;
}

int stream_start(struct open_camera *opened, uint64_t frames) {
    struct stream *stream = &opened->stream;
    int error = GC_ERR_RESOURCE_IN_USE;
    faults_delay(&opened->device.camera->faults, CALL_START);
    if (!device_alive(&opened->device)) return GC_ERR_IO;
    if (!stream_is_running(opened)) stream_stop(opened); /* its thread may have ended by itself */
    pthread_mutex_lock(&stream->lock);
    if (!stream->running) {
        stream->started = 0; /* ids begin anew at every start, as most cameras' do */
        stream->stopping = false;
        stream->wanted = frames;
        stream->kills = 0;
        error = pthread_create(&stream->thread, NULL, acquire, opened) ? GC_ERR_OUT_OF_MEMORY : GC_ERR_SUCCESS;
        stream->running = !error;
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

void stream_stop(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    if (!stream->running) return;
    faults_delay(&opened->device.camera->faults, CALL_STOP);
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
        stream->latest_ns = now_ns();
        faults_take(&camera->faults.silent); /* a new start helps, or one of the next */
    }
    stream->exposing = on;
    pthread_mutex_unlock(&stream->lock);
    simcam_wake(camera);
}

void stream_software_trigger(struct open_camera *opened) {
    struct stream *stream = &opened->stream;
    struct camera *camera = opened->device.camera;
    pthread_mutex_lock(&stream->lock);
    /* A camera that does not wait for it does not hear it. */
    bool listens = stream->exposing && camera->reg[R_TRIGGER_MODE] &&
                   camera->reg[R_TRIGGER_SOURCE] == TRIGGER_SOURCE_SOFTWARE;
    if (listens) device_trigger(camera, now_ns());
    pthread_mutex_unlock(&stream->lock);
    if (listens) simcam_wake(camera);
}
