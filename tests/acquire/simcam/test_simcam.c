/* simcam's own test: a GenTL host of the plainest sort, the cameras it plays with, and every fault.
 * test_simcam.py builds it with sanitizers. `test_simcam` runs everything, `test_simcam NAME` one test,
 * `test_simcam layout` prints the layout of struct camera for Python, `test_simcam numbers` the enumerations. */
#define _GNU_SOURCE
#include "producer.c" /* not linked: so the compiler holds the calls against the very declarations */

#include <math.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define MS 1000000u /* in ns */
#define SOON 5000u  /* ms until something that must come is said not to come: other programs run here too */
#define FOREVER UINT64_MAX
#define MAX_BUFFERS 64
#define LOOK_MS 20u /* as in stream.c */

static const char *running = "";

/* _exit: a leak report would hide what failed. */
static void failed(int line, const char *said, long long got, long long wanted) {
    fprintf(stderr, "%s: line %d: %s: is %lld, should be %lld\n", running, line, said, got, wanted);
    _exit(1);
}

#define SAME(got, wanted) same(__LINE__, #got " == " #wanted, (long long)(got), (long long)(wanted))
#define CHECK(holds) same(__LINE__, #holds, !!(holds), 1)
#define OK(call) SAME(call, GC_ERR_SUCCESS)

static void same(int line, const char *said, long long got, long long wanted) {
    if (got != wanted) failed(line, said, got, wanted);
}

static void sleep_ms(unsigned ms) {
    struct timespec pause = {ms / 1000, (long)(ms % 1000 * MS)};
    nanosleep(&pause, NULL);
}

/* Waits for what another thread will do; a test that waits in vain fails. */
#define EVENTUALLY(holds) \
    do { \
        uint64_t until_ = now_ns() + SOON * (uint64_t)MS; \
        while (!(holds) && now_ns() < until_) sleep_ms(1); \
        CHECK(holds); \
    } while (0)

/* ---- cameras: their files, as world.py makes them ---- */

struct sensor {
    uint32_t width, height, channels, images, timestamps;
};
static const struct sensor SMALL = {71, 67, 1, 5, TIMESTAMP_NS}, COLOUR = {71, 67, 3, 5, TIMESTAMP_NS};
static char world[1024];

static uint8_t source_pixel(uint64_t image, uint64_t x, uint64_t y, uint64_t channel) {
    return (uint8_t)(image * 67 + x * 7 + y * 13 + channel * 101 + x * y % 31);
}

static void path_of(char path[PATH_MAX], const char *name, const char *ending) {
    snprintf(path, PATH_MAX, "%s/%s.%s", world, name, ending);
}

static void write_file(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file);
    SAME(fwrite(data, 1, size, file), size);
    SAME(fclose(file), 0);
}

/* The picture after the first one is flagged as one that could not be read where `is_bad`. */
static void write_pictures(const char *name, const struct sensor *s, bool is_bad) {
    char path[PATH_MAX];
    size_t size = 4096 + (size_t)s->images * s->height * s->width * s->channels, at = 4096;
    uint8_t *raw = calloc(1, size);
    CHECK(raw);
    raw[1] = is_bad;
    for (uint64_t i = 0; i < s->images; i++)
        for (uint64_t y = 0; y < s->height; y++)
            for (uint64_t x = 0; x < s->width; x++)
                for (uint64_t c = 0; c < s->channels; c++) raw[at++] = source_pixel(i, x, y, c);
    path_of(path, name, "raw");
    write_file(path, raw, size);
    free(raw);
}

static struct camera *map_camera(const char *name) {
    char path[PATH_MAX];
    path_of(path, name, "camera");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    void *map = mmap(NULL, sizeof(struct camera), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    close(fd);
    return map;
}

static void unmap_camera(struct camera *camera) { SAME(munmap(camera, sizeof *camera), 0); }

static struct camera *make_camera(const char *name, const struct sensor *s) {
    char path[PATH_MAX];
    struct camera *made = calloc(1, sizeof *made);
    CHECK(made);
    memcpy(made->magic, SIMCAM_MAGIC, sizeof made->magic);
    made->size = sizeof *made;
    made->image_count = s->images;
    made->width = s->width;
    made->height = s->height;
    made->channels = s->channels;
    made->timestamp_mode = s->timestamps;
    snprintf(made->serial, sizeof made->serial, "SIM-%.20s", name);
    snprintf(made->user_id, sizeof made->user_id, "%.20s", name);
    simcam_power_on(made);
    write_pictures(name, s, false);
    path_of(path, name, "camera");
    write_file(path, made, sizeof *made);
    free(made);
    return map_camera(name);
}

static void unplug(struct camera *camera, unsigned ms) {
    atomic_store(&camera->back_ns, now_ns() + ms * (uint64_t)MS);
    atomic_fetch_add(&camera->plug, 1);
    simcam_wake(camera);
}

/* A world of its own for each test. */
static void make_world(void) {
    const char *base = getenv("TMPDIR");
    snprintf(world, sizeof world, "%.900s/simcam.XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(world));
    setenv("INSPECTD_SIMCAM", world, 1);
}

static void remove_world(void) {
    char path[PATH_MAX + NAME_MAX];
    DIR *listing = opendir(world);
    CHECK(listing);
    for (struct dirent *entry; (entry = readdir(listing));) {
        snprintf(path, sizeof path, "%s/%s", world, entry->d_name);
        unlink(path); /* "." and ".." stay */
    }
    closedir(listing);
    SAME(rmdir(world), 0);
}

/* ---- what the pictures must be: worked out bit by bit, otherwise than in device.c ---- */

static unsigned grey_at(const struct sensor *s, uint64_t image, uint64_t x, uint64_t y) {
    if (s->channels == 1) return source_pixel(image, x, y, 0);
    unsigned weighted = 77u * source_pixel(image, x, y, 0) + 150u * source_pixel(image, x, y, 1);
    return (weighted + 29u * source_pixel(image, x, y, 2)) / 256;
}

static unsigned bits_per_pixel(uint64_t format) {
    switch (format) {
    case RGB8: return 24;
    case Mono12: return 16;
    case Mono12p: return 12;
    default: return 8;
    }
}

/* The pixel's value as it stands in the data, least significant bit first. */
static uint64_t wanted_pixel(const struct sensor *s, uint64_t image, uint64_t format, uint64_t x, uint64_t y) {
    static const uint64_t bayer[2][2] = {{0, 1}, {1, 2}}; /* red, green / green, blue */
    bool is_mono = s->channels == 1;
    unsigned grey = grey_at(s, image, x, y);
    switch (format) {
    case BayerRG8: return source_pixel(image, x, y, is_mono ? 0 : bayer[y % 2][x % 2]);
    case RGB8:
        if (is_mono) return grey * 0x010101u;
        return source_pixel(image, x, y, 0) + 0x100u * source_pixel(image, x, y, 1) +
               0x10000u * source_pixel(image, x, y, 2);
    case Mono12: case Mono12p: return grey * 16 + grey / 16;
    default: return grey;
    }
}

static size_t wanted_size(uint64_t format, uint64_t width, uint64_t height) {
    return (size_t)((width * height * bits_per_pixel(format) + 7) / 8);
}

static void wanted_picture(const struct sensor *s, uint64_t image, uint64_t format, uint64_t width, uint64_t height,
                           uint8_t *out) {
    unsigned bits = bits_per_pixel(format);
    memset(out, 0, wanted_size(format, width, height));
    for (uint64_t y = 0; y < height; y++)
        for (uint64_t x = 0; x < width; x++) {
            uint64_t value = wanted_pixel(s, image, format, x, y), at = (y * width + x) * bits;
            for (unsigned b = 0; b < bits; b++, at++) out[at / 8] = (uint8_t)(out[at / 8] | (value >> b & 1) << at % 8);
        }
}

/* ---- the host ---- */

struct host {
    const struct sensor *sensor;
    struct camera *camera; /* from outside */
    HANDLE device, port, stream, event, buffers[MAX_BUFFERS];
    size_t count;
};

struct shot {
    HANDLE buffer;
    uint8_t *base;
    uint64_t frame_id, timestamp, width, height, format, filled;
    bool is_incomplete, has_chunks;
    uint64_t chunks[CHUNKS];
};

static HANDLE the_tl, the_if; /* open during each test */

static void open_library(void) {
    OK(GCInitLib());
    OK(TLOpen(&the_tl));
    OK(TLOpenInterface(the_tl, INTERFACE_ID, &the_if));
}

static int write_reg(struct host *h, enum reg index, uint64_t value) {
    size_t size = sizeof value;
    return GCWritePort(h->port, REGISTERS + 8 * index, &value, &size);
}

static int write_real(struct host *h, enum reg index, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return write_reg(h, index, bits);
}

static uint64_t read_reg(struct host *h, enum reg index) {
    uint64_t value = 0;
    size_t size = sizeof value;
    OK(GCReadPort(h->port, REGISTERS + 8 * index, &value, &size));
    return value;
}

static uint64_t stream_number(struct host *h, CMD what) {
    uint64_t value = 0;
    size_t size = sizeof value;
    OK(DSGetInfo(h->stream, what, NULL, &value, &size));
    return value;
}

static uint64_t lost_frames(struct host *h) {
    uint64_t value = 0;
    size_t size = sizeof value;
    OK(GCReadPort(h->stream, 8, &value, &size));
    return value;
}

static uint64_t buffer_number(struct host *h, HANDLE buffer, CMD what) {
    uint64_t value = 0;
    size_t size = sizeof value;
    OK(DSGetBufferInfo(h->stream, buffer, what, NULL, &value, &size));
    return value;
}

static void open_device(struct host *h, const char *name, const struct sensor *s) {
    memset(h, 0, sizeof *h);
    h->sensor = s;
    h->camera = map_camera(name);
    OK(IFOpenDevice(the_if, name, 3, &h->device));
    OK(DevGetPort(h->device, &h->port));
    OK(DevOpenDataStream(h->device, "stream0", &h->stream));
    OK(GCRegisterEvent(h->stream, EVENT_NEW_BUFFER, &h->event));
}

static void close_device(struct host *h) {
    OK(DevClose(h->device));
    unmap_camera(h->camera);
}

static void announce(struct host *h, size_t count, size_t size) {
    for (size_t i = 0; i < count; i++, h->count++) {
        CHECK(h->count < MAX_BUFFERS);
        OK(DSAllocAndAnnounceBuffer(h->stream, size, (char *)h + h->count, &h->buffers[h->count]));
        OK(DSQueueBuffer(h->stream, h->buffers[h->count]));
    }
}

static void start(struct host *h) {
    OK(DSStartAcquisition(h->stream, 0, FOREVER));
    OK(write_reg(h, R_TL_PARAMS_LOCKED, 1));
    OK(write_reg(h, R_ACQUISITION_START, 1));
}

static void stop(struct host *h) {
    OK(write_reg(h, R_ACQUISITION_STOP, 1));
    OK(DSStopAcquisition(h->stream, 0));
    OK(write_reg(h, R_TL_PARAMS_LOCKED, 0));
}

static void trigger_by(struct host *h, uint64_t source) {
    OK(write_reg(h, R_TRIGGER_MODE, 1));
    OK(write_reg(h, R_TRIGGER_SOURCE, source));
    OK(write_real(h, R_EXPOSURE_TIME, 10.0));
}

/* What most tests begin with: pulses on Line0, chunks, buffers that hold them. */
static void open_line(struct host *h, const char *name, const struct sensor *s, size_t buffers) {
    open_device(h, name, s);
    trigger_by(h, TRIGGER_SOURCE_LINE0);
    OK(write_reg(h, R_CHUNK_MODE_ACTIVE, 1));
    announce(h, buffers, stream_number(h, STREAM_INFO_PAYLOAD_SIZE));
    start(h);
}

static void read_chunks(struct host *h, struct shot *f) {
    struct single_chunk_data found[CHUNKS];
    size_t count = CHUNKS;
    OK(DSGetBufferChunkData(h->stream, f->buffer, NULL, &count));
    SAME(count, f->has_chunks ? CHUNKS : 0);
    OK(DSGetBufferChunkData(h->stream, f->buffer, found, &count));
    for (size_t i = 0; i < count; i++) {
        SAME(found[i].id, CHUNK_IDS + i);
        SAME(found[i].length, 8);
        CHECK((uint64_t)found[i].offset + 8 <= buffer_number(h, f->buffer, BUFFER_INFO_SIZE));
        memcpy(&f->chunks[i], f->base + found[i].offset, 8);
    }
}

static int fetch(struct host *h, uint64_t timeout_ms, struct shot *f) {
    struct new_buffer_event told;
    size_t size = sizeof told, time_size = 8;
    int error = EventGetData(h->event, &told, &size, timeout_ms);
    memset(f, 0, sizeof *f);
    if (error) return error;
    f->buffer = told.buffer;
    size_t index = (size_t)((char *)told.user - (char *)h); /* as announced */
    CHECK(index < h->count && h->buffers[index] == told.buffer);
    f->base = (uint8_t *)(uintptr_t)buffer_number(h, f->buffer, BUFFER_INFO_BASE);
    f->frame_id = buffer_number(h, f->buffer, BUFFER_INFO_FRAMEID);
    f->width = buffer_number(h, f->buffer, BUFFER_INFO_WIDTH);
    f->height = buffer_number(h, f->buffer, BUFFER_INFO_HEIGHT);
    f->format = buffer_number(h, f->buffer, BUFFER_INFO_PIXELFORMAT);
    f->filled = buffer_number(h, f->buffer, BUFFER_INFO_SIZE_FILLED);
    f->is_incomplete = buffer_number(h, f->buffer, BUFFER_INFO_IS_INCOMPLETE);
    f->has_chunks = buffer_number(h, f->buffer, BUFFER_INFO_CONTAINS_CHUNKDATA);
    DSGetBufferInfo(h->stream, f->buffer, BUFFER_INFO_TIMESTAMP, NULL, &f->timestamp, &time_size);
    read_chunks(h, f);
    return error;
}

static void requeue(struct host *h, struct shot *f) { OK(DSQueueBuffer(h->stream, f->buffer)); }

/* Bytes of a frame of which so many are the picture's. */
static size_t sent(const struct shot *f, size_t picture) {
    return f->has_chunks ? (picture + 7) / 8 * 8 + 8 * CHUNKS : picture;
}

/* A whole frame with the picture that belongs to the trigger with this number. */
static void check_picture(struct host *h, const struct shot *f, uint64_t image) {
    size_t size = wanted_size(f->format, f->width, f->height);
    uint8_t *wanted = malloc(size);
    CHECK(wanted);
    wanted_picture(h->sensor, image % h->sensor->images, f->format, f->width, f->height, wanted);
    CHECK(!f->is_incomplete);
    SAME(f->filled, sent(f, size));
    SAME(memcmp(f->base, wanted, size), 0);
    free(wanted);
}

/* The next frame is that of trigger number `trigger`, whole and right; it goes straight back. */
static void expect(struct host *h, uint64_t trigger, uint64_t frame_id) {
    struct shot f;
    OK(fetch(h, SOON, &f));
    SAME(f.frame_id, frame_id);
    CHECK(f.has_chunks);
    SAME(f.chunks[CHUNK_FRAME_ID], frame_id);
    SAME(f.chunks[CHUNK_COUNTER_VALUE], trigger);
    SAME(f.chunks[CHUNK_ENCODER_VALUE], trigger * 100);
    check_picture(h, &f, trigger - 1);
    requeue(h, &f);
}

static void expect_nothing(struct host *h) {
    struct shot f;
    SAME(fetch(h, 40, &f), GC_ERR_TIMEOUT);
}

static void *waits_for_ever(void *argument) {
    struct host *h = argument;
    struct new_buffer_event told;
    size_t size = sizeof told;
    return (void *)(intptr_t)EventGetData(h->event, &told, &size, FOREVER);
}

/* What the stream's handle stands for. */
static struct open_camera *inside(struct host *h) {
    HELD held = handle_hold(h->stream, KIND_STREAM);
    return held.object;
}

static uint64_t waiting_in(struct host *h) {
    struct stream *s = &inside(h)->stream;
    pthread_mutex_lock(&s->lock);
    uint64_t count = s->waiting;
    pthread_mutex_unlock(&s->lock);
    return count;
}

static pthread_t in_thread(void *(*what)(void *), void *argument) {
    pthread_t thread;
    SAME(pthread_create(&thread, NULL, what, argument), 0);
    return thread;
}

static intptr_t result_of(pthread_t thread) {
    void *result;
    SAME(pthread_join(thread, &result), 0);
    return (intptr_t)result;
}

/* ---- the library and its lists ---- */

static void test_library(void) {
    HANDLE tl, interface;
    GC_ERROR code;
    char text[64];
    size_t size = sizeof text;
    OK(GCCloseLib()); /* main has opened it */
    SAME(GCCloseLib(), GC_ERR_NOT_INITIALIZED);
    SAME(TLOpen(&tl), GC_ERR_NOT_INITIALIZED);
    OK(GCGetLastError(&code, text, &size));
    SAME(code, GC_ERR_NOT_INITIALIZED);
    CHECK(strstr(text, "-1002"));
    SAME(TLClose(the_tl), GC_ERR_NOT_INITIALIZED);
    OK(GCInitLib());
    SAME(GCInitLib(), GC_ERR_RESOURCE_IN_USE);
    OK(TLOpen(&tl));
    SAME(TLOpen(&interface), GC_ERR_RESOURCE_IN_USE);
    OK(TLOpenInterface(tl, INTERFACE_ID, &interface));
    SAME(TLOpenInterface(tl, INTERFACE_ID, &the_if), GC_ERR_RESOURCE_IN_USE);
    OK(TLClose(tl));
    SAME(TLClose(tl), GC_ERR_INVALID_HANDLE);
    SAME(IFClose(interface), GC_ERR_INVALID_HANDLE); /* closed with the system */
    OK(TLOpen(&the_tl));
    CHECK(the_tl != tl);
    OK(TLOpenInterface(the_tl, INTERFACE_ID, &the_if));
    OK(IFClose(the_if));
    SAME(IFClose(the_if), GC_ERR_INVALID_HANDLE);
    SAME(GCReadPortStacked(), GC_ERR_NOT_IMPLEMENTED);
    SAME(simcam_size(), sizeof(struct camera));
}

static void write_broken(const char *name, struct camera *from, size_t size) {
    char path[PATH_MAX];
    write_pictures(name, &SMALL, false);
    path_of(path, name, "camera");
    write_file(path, from, size);
}

/* Files that are no cameras, and one whose pictures do not fit. */
static void break_files(struct camera *good) {
    char path[PATH_MAX];
    struct camera *bad = malloc(sizeof *bad);
    CHECK(bad);
    memcpy(bad, good, sizeof *bad);
    write_broken("short", bad, sizeof *bad - 1);
    bad->magic[0] = 'x';
    write_broken("magic", bad, sizeof *bad);
    bad->magic[0] = good->magic[0], bad->channels = 2;
    write_broken("channels", bad, sizeof *bad);
    bad->channels = 1, bad->image_count = 0;
    write_broken("empty", bad, sizeof *bad);
    bad->image_count = 4;
    write_broken("pictures", bad, sizeof *bad);
    bad->image_count = good->image_count, bad->size = 8;
    write_broken("size", bad, sizeof *bad);
    bad->size = good->size;
    write_broken("blind", bad, sizeof *bad);
    path_of(path, "blind", "raw");
    SAME(unlink(path), 0);
    free(bad);
}

static void test_lists(void) {
    struct camera *b = make_camera("b", &SMALL), *a = make_camera("a", &COLOUR);
    HANDLE interface = the_if, tl, device;
    uint32_t count;
    char id[8];
    size_t size = sizeof id;
    bool8_t changed;
    break_files(b);
    OK(TLUpdateInterfaceList(the_tl, &changed, 0));
    SAME(changed, 1); /* a host that lists only what changed would list nothing */
    OK(TLUpdateInterfaceList(the_tl, &changed, 0));
    SAME(changed, 0);
    OK(TLGetNumInterfaces(the_tl, &count));
    SAME(count, 1);
    OK(TLGetInterfaceID(the_tl, 0, id, &size));
    SAME(strcmp(id, "simcam"), 0);
    SAME(TLGetInterfaceID(the_tl, 1, id, &size), GC_ERR_INVALID_INDEX);
    OK(IFGetParentTL(interface, &tl));
    CHECK(tl == the_tl);
    OK(IFUpdateDeviceList(interface, NULL, 0));
    OK(IFGetNumDevices(interface, &count));
    SAME(count, 2); /* only the sound ones, in order */
    for (uint32_t i = 0; i < 2; i++) {
        size = sizeof id;
        OK(IFGetDeviceID(interface, i, id, &size));
        SAME(id[0], "ab"[i]);
    }
    SAME(IFGetDeviceID(interface, 2, id, &size), GC_ERR_INVALID_INDEX);
    SAME(IFOpenDevice(interface, "magic", 3, &device), GC_ERR_INVALID_ID);
    unplug(a, 60000);
    OK(IFUpdateDeviceList(interface, &changed, 0));
    OK(IFGetNumDevices(interface, &count));
    SAME(count, 1);
    SAME(IFOpenDevice(interface, "a", 3, &device), GC_ERR_INVALID_ID);
    setenv("INSPECTD_SIMCAM", "/nowhere", 1);
    OK(IFUpdateDeviceList(interface, &changed, 0));
    OK(IFGetNumDevices(interface, &count));
    SAME(count, 0);
    unmap_camera(a);
    unmap_camera(b);
}

/* ---- infos: every command of every function, with every sort of buffer ---- */

static struct host asked; /* an open camera with a delivered buffer */
static struct new_buffer_event asked_event;
#define ASK(name, call) \
    static GC_ERROR name(CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) { return call; }
ASK(ask_library, GCGetInfo(what, type, buffer, size))
ASK(ask_system, TLGetInfo(the_tl, what, type, buffer, size))
ASK(ask_listed_interface, TLGetInterfaceInfo(the_tl, "simcam", what, type, buffer, size))
ASK(ask_interface, IFGetInfo(the_if, what, type, buffer, size))
ASK(ask_listed_device, IFGetDeviceInfo(the_if, "a", what, type, buffer, size))
ASK(ask_device, DevGetInfo(asked.device, what, type, buffer, size))
ASK(ask_port, GCGetPortInfo(asked.port, what, type, buffer, size))
ASK(ask_device_port, GCGetPortInfo(asked.device, what, type, buffer, size))
ASK(ask_stream_port, GCGetPortInfo(asked.stream, what, type, buffer, size))
ASK(ask_url, GCGetPortURLInfo(asked.port, 0, what, type, buffer, size))
ASK(ask_stream_url, GCGetPortURLInfo(asked.stream, 0, what, type, buffer, size))
ASK(ask_event, EventGetInfo(asked.event, what, type, buffer, size))
ASK(ask_event_data, EventGetDataInfo(asked.event, &asked_event, sizeof asked_event, what, type, buffer, size))
ASK(ask_stream, DSGetInfo(asked.stream, what, type, buffer, size))
ASK(ask_buffer, DSGetBufferInfo(asked.stream, asked_event.buffer, what, type, buffer, size))

static size_t size_of_type(INFO_DATATYPE type) {
    switch (type) {
    case INFO_DATATYPE_BOOL8: return 1;
    case INFO_DATATYPE_INT32: case INFO_DATATYPE_UINT32: return 4;
    case INFO_DATATYPE_UINT64: case INFO_DATATYPE_SIZET: case INFO_DATATYPE_PTR: return 8;
    default: SAME(type, INFO_DATATYPE_STRING); return 0;
    }
}

/* 1 where the command is answered. The buffer has exactly the size told: one byte more is the sanitizer's. */
static unsigned ask_one(GC_ERROR (*ask)(CMD, INFO_DATATYPE *, void *, size_t *), CMD what) {
    INFO_DATATYPE type = 0, again = 0;
    size_t size = 0, told;
    int error = ask(what, &type, NULL, &size);
    if (error) {
        CHECK(error == GC_ERR_NOT_IMPLEMENTED || error == GC_ERR_NOT_AVAILABLE);
        return 0;
    }
    told = size;
    CHECK(told > 0);
    uint8_t *buffer = malloc(told);
    CHECK(buffer);
    SAME(ask(what, &type, buffer, NULL), GC_ERR_INVALID_PARAMETER);
    size = told - 1;
    SAME(ask(what, &type, buffer, &size), GC_ERR_BUFFER_TOO_SMALL);
    size = told + 100;
    OK(ask(what, &again, buffer, &size));
    SAME(size, told);
    SAME(type, again);
    OK(ask(what, NULL, buffer, &size));
    if (size_of_type(type)) SAME(size_of_type(type), told);
    else SAME(buffer[told - 1], 0);
    free(buffer);
    return 1;
}

static unsigned ask_all(GC_ERROR (*ask)(CMD, INFO_DATATYPE *, void *, size_t *)) {
    unsigned answered = 0;
    for (CMD what = -1; what < 40; what++) answered += ask_one(ask, what);
    return answered;
}

static void check_text(GC_ERROR (*ask)(CMD, INFO_DATATYPE *, void *, size_t *), CMD what, const char *wanted) {
    char text[PATH_MAX];
    size_t size = sizeof text;
    OK(ask(what, NULL, text, &size));
    if (!strstr(text, wanted)) failed(__LINE__, text, 0, 0);
}

static uint64_t ask_number(GC_ERROR (*ask)(CMD, INFO_DATATYPE *, void *, size_t *), CMD what) {
    uint64_t number = 0;
    size_t size = sizeof number;
    OK(ask(what, NULL, &number, &size));
    return number;
}

static void check_counts(void) {
    SAME(ask_all(ask_library), 11);
    SAME(ask_all(ask_system), 11);
    SAME(ask_all(ask_listed_interface), 3);
    SAME(ask_all(ask_interface), 3);
    SAME(ask_all(ask_listed_device), 10);
    SAME(ask_all(ask_device), 10);
    SAME(ask_all(ask_port), 13);
    SAME(ask_all(ask_device_port), 13);
    SAME(ask_all(ask_stream_port), 13);
    SAME(ask_all(ask_url), 10); /* of 11: no SHA-1 */
    SAME(ask_all(ask_stream_url), 10);
    SAME(ask_all(ask_event), 5);
    SAME(ask_all(ask_event_data), 2);
    SAME(ask_all(ask_stream), 14);
    SAME(ask_all(ask_buffer), 28); /* of 31: no file name, no chunk layout, no "larger than the buffer" */
}

static void check_answers(void) {
    check_text(ask_device, DEVICE_INFO_SERIAL_NUMBER, "SIM-a");
    check_text(ask_listed_device, DEVICE_INFO_USER_DEFINED_NAME, "a");
    check_text(ask_url, URL_INFO_URL, "Local:simcam_camera.xml;10000000;");
    check_text(ask_stream_url, URL_INFO_URL, "Local:simcam_stream.xml;10000000;");
    SAME(ask_number(ask_device, DEVICE_INFO_ACCESS_STATUS), DEVICE_ACCESS_STATUS_OPEN_READWRITE);
    SAME(ask_number(ask_listed_device, DEVICE_INFO_ACCESS_STATUS), DEVICE_ACCESS_STATUS_BUSY);
    SAME(ask_number(ask_event_data, EVENT_DATA_ID), (uintptr_t)asked_event.buffer);
    SAME(ask_number(ask_event_data, EVENT_DATA_VALUE), (uintptr_t)&asked);
    SAME(ask_number(ask_event, EVENT_NUM_FIRED), 1);
    SAME(ask_number(ask_event, EVENT_NUM_IN_QUEUE), 0);
    SAME(ask_number(ask_stream, STREAM_INFO_NUM_DELIVERED), 1);
    SAME(ask_number(ask_stream, STREAM_INFO_NUM_ANNOUNCED), 2);
    SAME(ask_number(ask_stream, STREAM_INFO_NUM_QUEUED), 1); /* also while it is being filled */
    SAME(ask_number(ask_stream, STREAM_INFO_IS_GRABBING), 1);
    SAME(ask_number(ask_buffer, BUFFER_INFO_NEW_DATA), 1);
    SAME(ask_number(ask_buffer, BUFFER_INFO_IS_QUEUED), 0);
    SAME(ask_number(ask_buffer, BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE), 8 * CHUNKS);
}

static void test_infos(void) {
    struct shot f;
    HANDLE parent;
    uint32_t count;
    char url[PATH_MAX];
    size_t size = sizeof url;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&asked, "a", &SMALL, 2);
    simcam_pulse(asked.camera, 1);
    OK(fetch(&asked, SOON, &f));
    asked_event = (struct new_buffer_event){f.buffer, &asked};
    check_counts();
    check_answers();
    OK(DevGetParentIF(asked.device, &parent));
    CHECK(parent == the_if);
    OK(DSGetParentDev(asked.stream, &parent));
    CHECK(parent == asked.device);
    OK(DevGetNumDataStreams(asked.device, &count));
    SAME(count, 1);
    OK(GCGetNumPortURLs(asked.port, &count));
    SAME(count, 1);
    OK(GCGetPortURL(asked.port, url, &size));
    SAME(strncmp(url, "Local:", 6), 0);
    SAME(EventGetDataInfo(asked.event, &asked_event, 8, EVENT_DATA_ID, NULL, &parent, &size), GC_ERR_INVALID_PARAMETER);
    SAME(GCGetPortURLInfo(asked.port, 1, URL_INFO_URL, NULL, url, &size), GC_ERR_INVALID_INDEX);
    SAME(DevGetDataStreamID(asked.device, 1, url, &size), GC_ERR_INVALID_INDEX);
    close_device(&asked);
}

/* A serial that fills its place has no zero behind it; what stands behind it is not part of it. */
static void test_long_texts(void) {
    static const char serial[TEXT_SIZE + 1] = "0123456789abcdef0123456789abcdef";
    struct camera *camera = make_camera("a", &SMALL);
    char text[64];
    size_t size = sizeof text;
    memcpy(camera->serial, serial, TEXT_SIZE);
    open_device(&asked, "a", &SMALL);
    check_text(ask_device, DEVICE_INFO_SERIAL_NUMBER, serial);
    OK(DevGetInfo(asked.device, DEVICE_INFO_SERIAL_NUMBER, NULL, text, &size));
    SAME(size, TEXT_SIZE + 1);
    size = TEXT_SIZE;
    OK(GCWritePort(asked.port, USER_ID_ADDRESS, serial, &size)); /* cut to what has room with its zero */
    size = sizeof text;
    OK(DevGetInfo(asked.device, DEVICE_INFO_USER_DEFINED_NAME, NULL, text, &size));
    SAME(strncmp(text, serial, TEXT_SIZE - 1), 0);
    SAME(size, TEXT_SIZE);
    close_device(&asked);
    unmap_camera(camera);
}

/* ---- handles and names that are none ---- */

static void refuse_as_device(HANDLE bad) {
    HANDLE made;
    uint32_t count;
    char text[8];
    size_t size = sizeof text;
    SAME(DevClose(bad), GC_ERR_INVALID_HANDLE);
    SAME(DevGetInfo(bad, DEVICE_INFO_ID, NULL, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(DevGetPort(bad, &made), GC_ERR_INVALID_HANDLE);
    SAME(DevGetParentIF(bad, &made), GC_ERR_INVALID_HANDLE);
    SAME(DevGetNumDataStreams(bad, &count), GC_ERR_INVALID_HANDLE);
    SAME(DevGetDataStreamID(bad, 0, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(DevOpenDataStream(bad, "stream0", &made), GC_ERR_INVALID_HANDLE);
}

static void refuse_as_stream(HANDLE bad) {
    HANDLE made;
    char text[8];
    size_t size = sizeof text;
    SAME(DSClose(bad), GC_ERR_INVALID_HANDLE);
    SAME(DSGetInfo(bad, STREAM_INFO_ID, NULL, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(DSGetParentDev(bad, &made), GC_ERR_INVALID_HANDLE);
    SAME(DSAnnounceBuffer(bad, text, sizeof text, NULL, &made), GC_ERR_INVALID_HANDLE);
    SAME(DSAllocAndAnnounceBuffer(bad, 8, NULL, &made), GC_ERR_INVALID_HANDLE);
    SAME(DSRevokeBuffer(bad, NULL, NULL, NULL), GC_ERR_INVALID_HANDLE);
    SAME(DSQueueBuffer(bad, NULL), GC_ERR_INVALID_HANDLE);
    SAME(DSFlushQueue(bad, ACQ_QUEUE_ALL_DISCARD), GC_ERR_INVALID_HANDLE);
    SAME(DSGetBufferID(bad, 0, &made), GC_ERR_INVALID_HANDLE);
    SAME(DSStartAcquisition(bad, 0, FOREVER), GC_ERR_INVALID_HANDLE);
    SAME(DSStopAcquisition(bad, 0), GC_ERR_INVALID_HANDLE);
    SAME(DSGetBufferInfo(bad, NULL, BUFFER_INFO_BASE, NULL, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(DSGetBufferChunkData(bad, NULL, NULL, &size), GC_ERR_INVALID_HANDLE);
}

static void refuse_as_event(HANDLE bad) {
    struct new_buffer_event told = {0};
    size_t size = sizeof told;
    SAME(EventGetData(bad, &told, &size, 0), GC_ERR_INVALID_HANDLE);
    SAME(EventGetDataInfo(bad, &told, size, EVENT_DATA_ID, NULL, &told, &size), GC_ERR_INVALID_HANDLE);
    SAME(EventGetInfo(bad, EVENT_NUM_FIRED, NULL, &told, &size), GC_ERR_INVALID_HANDLE);
    SAME(EventFlush(bad), GC_ERR_INVALID_HANDLE);
    SAME(EventKill(bad), GC_ERR_INVALID_HANDLE);
}

static void refuse_as_system(HANDLE bad) {
    HANDLE made;
    uint32_t count;
    char text[8];
    size_t size = sizeof text;
    SAME(TLClose(bad), GC_ERR_INVALID_HANDLE);
    SAME(TLGetInfo(bad, TL_INFO_ID, NULL, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(TLUpdateInterfaceList(bad, NULL, 0), GC_ERR_INVALID_HANDLE);
    SAME(TLGetNumInterfaces(bad, &count), GC_ERR_INVALID_HANDLE);
    SAME(TLGetInterfaceID(bad, 0, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(TLGetInterfaceInfo(bad, "simcam", INTERFACE_INFO_ID, NULL, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(TLOpenInterface(bad, "simcam", &made), GC_ERR_INVALID_HANDLE);
}

static void refuse_as_interface(HANDLE bad) {
    HANDLE made;
    uint32_t count;
    char text[8];
    size_t size = sizeof text;
    SAME(IFClose(bad), GC_ERR_INVALID_HANDLE);
    SAME(IFGetInfo(bad, INTERFACE_INFO_ID, NULL, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(IFGetParentTL(bad, &made), GC_ERR_INVALID_HANDLE);
    SAME(IFUpdateDeviceList(bad, NULL, 0), GC_ERR_INVALID_HANDLE);
    SAME(IFGetNumDevices(bad, &count), GC_ERR_INVALID_HANDLE);
    SAME(IFGetDeviceID(bad, 0, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(IFGetDeviceInfo(bad, "a", DEVICE_INFO_ID, NULL, text, &size), GC_ERR_INVALID_HANDLE);
    SAME(IFOpenDevice(bad, "a", 3, &made), GC_ERR_INVALID_HANDLE);
}

static void refuse_as_port(HANDLE bad) {
    HANDLE made;
    uint64_t word = 0;
    uint32_t count;
    size_t size = sizeof word;
    SAME(GCReadPort(bad, REGISTERS, &word, &size), GC_ERR_INVALID_HANDLE);
    SAME(GCWritePort(bad, REGISTERS, &word, &size), GC_ERR_INVALID_HANDLE);
    SAME(GCGetPortInfo(bad, PORT_INFO_ID, NULL, NULL, &size), GC_ERR_INVALID_HANDLE);
    SAME(GCGetNumPortURLs(bad, &count), GC_ERR_INVALID_HANDLE);
    SAME(GCGetPortURL(bad, NULL, &size), GC_ERR_INVALID_HANDLE);
    SAME(GCRegisterEvent(bad, EVENT_NEW_BUFFER, &made), GC_ERR_INVALID_HANDLE);
    SAME(GCUnregisterEvent(bad, EVENT_NEW_BUFFER), GC_ERR_INVALID_HANDLE);
}

static void check_names(HANDLE interface) {
    HANDLE made;
    char text[8], endless[2 * PATH_MAX];
    size_t size = sizeof text;
    memset(endless, 'a', sizeof endless - 1);
    endless[sizeof endless - 1] = 0;
    const char *bad[] = {"", "b", "a.camera", "../a", "/a", endless};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        SAME(IFOpenDevice(interface, bad[i], 3, &made), GC_ERR_INVALID_ID);
        SAME(IFGetDeviceInfo(interface, bad[i], DEVICE_INFO_ID, NULL, text, &size), GC_ERR_INVALID_ID);
        SAME(TLOpenInterface(the_tl, bad[i], &made), GC_ERR_INVALID_ID);
        SAME(TLGetInterfaceInfo(the_tl, bad[i], INTERFACE_INFO_ID, NULL, text, &size), GC_ERR_INVALID_ID);
    }
}

static void test_handles(void) {
    struct host h;
    HANDLE made;
    unmap_camera(make_camera("a", &SMALL));
    open_device(&h, "a", &SMALL);
    announce(&h, 1, 8);
    HANDLE all[] = {NULL, the_tl, the_if, h.device, h.port, h.stream, h.event, h.buffers[0]};
    HANDLE none[] = {the_tl, the_if, h.device, h.port};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i] != the_tl) refuse_as_system(all[i]);
        if (all[i] != the_if) refuse_as_interface(all[i]);
        if (all[i] != h.device) refuse_as_device(all[i]);
        if (all[i] != h.stream) refuse_as_stream(all[i]);
        if (all[i] != h.event) refuse_as_event(all[i]);
    }
    refuse_as_port(NULL);
    refuse_as_port(h.event);
    refuse_as_port(h.buffers[0]);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        SAME(GCRegisterEvent(none[i], EVENT_NEW_BUFFER, &made), GC_ERR_NOT_IMPLEMENTED);
    SAME(GCRegisterEvent(h.stream, 0, &made), GC_ERR_NOT_IMPLEMENTED);
    SAME(GCRegisterEvent(h.stream, EVENT_NEW_BUFFER, &made), GC_ERR_RESOURCE_IN_USE);
    OK(GCUnregisterEvent(h.stream, EVENT_NEW_BUFFER));
    SAME(GCUnregisterEvent(h.stream, EVENT_NEW_BUFFER), GC_ERR_INVALID_PARAMETER);
    SAME(DevOpenDataStream(h.device, "stream1", &made), GC_ERR_INVALID_ID);
    check_names(the_if);
    close_device(&h);
    for (size_t i = 3; i < sizeof all / sizeof all[0]; i++) { /* closed, and then not any more what they were */
        refuse_as_device(all[i]);
        refuse_as_stream(all[i]);
        refuse_as_event(all[i]);
        refuse_as_port(all[i]);
    }
}

/* Who closes a module closes what was opened through it, and a new one is not taken for it. */
static void test_closing_from_above(void) {
    struct host h, again;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 2);
    OK(DSClose(h.stream)); /* while it acquires */
    OK(DevOpenDataStream(h.device, "stream0", &again.stream));
    refuse_as_stream(h.stream);
    refuse_as_event(h.event);
    OK(IFClose(the_if));
    refuse_as_device(h.device);
    refuse_as_port(h.port);
    refuse_as_stream(again.stream);
    unmap_camera(h.camera);
    OK(TLOpenInterface(the_tl, INTERFACE_ID, &the_if));
    open_line(&again, "a", &SMALL, 2);
    HANDLE old[] = {h.device, h.port, h.stream, h.event, h.buffers[0], h.buffers[1]};
    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++) {
        refuse_as_device(old[i]);
        refuse_as_stream(old[i]);
        refuse_as_event(old[i]);
        refuse_as_port(old[i]);
        SAME(DSQueueBuffer(again.stream, old[i]), GC_ERR_INVALID_HANDLE);
        SAME(DSRevokeBuffer(again.stream, old[i], NULL, NULL), GC_ERR_INVALID_HANDLE);
    }
    simcam_pulse(again.camera, 1);
    expect(&again, 1, 1);
    pthread_t waiter = in_thread(waits_for_ever, &again);
    EVENTUALLY(waiting_in(&again) == 1);
    OK(TLClose(the_tl)); /* under a wait */
    SAME(result_of(waiter), GC_ERR_ABORT);
    refuse_as_device(again.device);
    unmap_camera(again.camera);
}

static void test_opened_twice(void) {
    struct host h, other;
    HANDLE made;
    uint32_t status;
    size_t size = sizeof status;
    unmap_camera(make_camera("a", &SMALL));
    unmap_camera(make_camera("b", &SMALL));
    open_device(&h, "a", &SMALL);
    SAME(IFOpenDevice(the_if, "a", 3, &made), GC_ERR_RESOURCE_IN_USE);
    SAME(DevOpenDataStream(h.device, "stream0", &made), GC_ERR_RESOURCE_IN_USE);
    open_device(&other, "b", &SMALL); /* another one is not held up */
    OK(DSStartAcquisition(h.stream, 0, FOREVER));
    SAME(DSStartAcquisition(h.stream, 0, FOREVER), GC_ERR_RESOURCE_IN_USE);
    OK(DSClose(h.stream)); /* while it acquires */
    SAME(DSClose(h.stream), GC_ERR_INVALID_HANDLE);
    OK(DevOpenDataStream(h.device, "stream0", &h.stream));
    close_device(&other);
    close_device(&h);
    OK(IFGetDeviceInfo(the_if, "a", DEVICE_INFO_ACCESS_STATUS, NULL, &status, &size));
    SAME(status, DEVICE_ACCESS_STATUS_READWRITE);
    open_device(&h, "a", &SMALL);
    close_device(&h);
}

/* To ask who has a camera takes nothing from whoever wants it. */
static void *lists_and_asks(void *argument) {
    const atomic_bool *stops = argument;
    uint32_t status;
    while (!atomic_load(stops)) {
        size_t size = sizeof status;
        OK(IFGetDeviceInfo(the_if, "a", DEVICE_INFO_ACCESS_STATUS, NULL, &status, &size));
        OK(IFUpdateDeviceList(the_if, NULL, 0));
        OK(IFGetNumDevices(the_if, &status));
    }
    return NULL;
}

static void test_asking_disturbs_nobody(void) {
    atomic_bool stops = false;
    HANDLE device;
    unmap_camera(make_camera("a", &SMALL));
    pthread_t first = in_thread(lists_and_asks, &stops), second = in_thread(lists_and_asks, &stops);
    for (int i = 0; i < 300; i++) /* nor do those who ask take each other for owners */
        SAME(ask_number(ask_listed_device, DEVICE_INFO_ACCESS_STATUS), DEVICE_ACCESS_STATUS_READWRITE);
    for (int i = 0; i < 300; i++) {
        OK(IFOpenDevice(the_if, "a", 3, &device));
        OK(DevClose(device));
    }
    atomic_store(&stops, true);
    result_of(first);
    result_of(second);
}

/* ---- registers ---- */

static void check_refused(struct host *h, enum reg index, uint64_t value) {
    uint64_t before = read_reg(h, index);
    SAME(write_reg(h, index, value), GC_ERR_ACCESS_DENIED);
    if (index != R_TEMPERATURE) SAME(read_reg(h, index), before);
}

static void check_ranges(struct host *h) {
    check_refused(h, R_WIDTH, 63);
    check_refused(h, R_WIDTH, 72);
    check_refused(h, R_HEIGHT, 63);
    check_refused(h, R_HEIGHT, 68);
    check_refused(h, R_PIXEL_FORMAT, 0x01080002);
    check_refused(h, R_TRIGGER_MODE, 2);
    check_refused(h, R_TRIGGER_SOURCE, 2);
    check_refused(h, R_CHUNK_MODE_ACTIVE, 2);
    check_refused(h, R_ACQUISITION_MODE, 1);
    SAME(write_real(h, R_FRAME_RATE, 0.0), GC_ERR_ACCESS_DENIED); /* a period without end */
    SAME(write_real(h, R_FRAME_RATE, -1.0), GC_ERR_ACCESS_DENIED);
    SAME(write_real(h, R_FRAME_RATE, (double)NAN), GC_ERR_ACCESS_DENIED);
    SAME(write_real(h, R_FRAME_RATE, 2001.0), GC_ERR_ACCESS_DENIED);
    SAME(write_real(h, R_EXPOSURE_TIME, 9.0), GC_ERR_ACCESS_DENIED);
    SAME(write_real(h, R_EXPOSURE_TIME, 1e30), GC_ERR_ACCESS_DENIED);
    SAME(write_real(h, R_GAIN, 25.0), GC_ERR_ACCESS_DENIED);
    OK(write_real(h, R_FRAME_RATE, 2000.0));
    OK(write_real(h, R_EXPOSURE_TIME, 1e6));
    OK(write_real(h, R_GAIN, 24.0));
}

static void check_locked(struct host *h) {
    static const enum reg locked[] = {R_WIDTH, R_HEIGHT, R_PIXEL_FORMAT, R_TRIGGER_MODE, R_TRIGGER_SOURCE,
                                      R_CHUNK_MODE_ACTIVE};
    OK(write_reg(h, R_TL_PARAMS_LOCKED, 1));
    for (size_t i = 0; i < sizeof locked / sizeof locked[0]; i++) check_refused(h, locked[i], read_reg(h, locked[i]));
    OK(write_real(h, R_EXPOSURE_TIME, 50.0));
    OK(write_reg(h, R_TL_PARAMS_LOCKED, 0));
    OK(write_reg(h, R_WIDTH, 64));
    OK(write_reg(h, R_HEIGHT, 65));
    OK(write_reg(h, R_PIXEL_FORMAT, Mono12));
    SAME(read_reg(h, R_WIDTH), 64);
    SAME(read_reg(h, R_PAYLOAD_SIZE), 64 * 65 * 2);
    SAME(stream_number(h, STREAM_INFO_PAYLOAD_SIZE), 64 * 65 * 2);
    OK(write_reg(h, R_CHUNK_MODE_ACTIVE, 1));
    SAME(read_reg(h, R_PAYLOAD_SIZE), 64 * 65 * 2 + 8 * CHUNKS);
    SAME(stream_number(h, STREAM_INFO_PAYLOAD_SIZE), 64 * 65 * 2 + 8 * CHUNKS);
}

static void check_addresses(struct host *h) {
    static const uint64_t bad[] = {0, 8, REGISTERS - 8, REGISTERS + 4, REGISTERS + 8 * R_COUNT, SERIAL_ADDRESS + 8,
                                   USER_ID_ADDRESS + 8, UINT64_MAX, UINT64_MAX - 7};
    uint8_t data[64] = {0};
    size_t size = 8;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        SAME(GCReadPort(h->port, bad[i], data, &size), GC_ERR_INVALID_ADDRESS);
        SAME(GCWritePort(h->port, bad[i], data, &size), GC_ERR_INVALID_ADDRESS);
    }
    for (size = 0; size < 64; size++) {
        SAME(GCReadPort(h->port, REGISTERS, data, &size), size == 8 ? 0 : GC_ERR_INVALID_ADDRESS);
        if (size != 8) SAME(GCWritePort(h->port, REGISTERS, data, &size), GC_ERR_INVALID_ADDRESS);
        SAME(GCReadPort(h->port, SERIAL_ADDRESS, data, &size), size <= TEXT_SIZE ? 0 : GC_ERR_INVALID_ADDRESS);
        if (size != 8) SAME(GCReadPort(h->stream, 0, data, &size), GC_ERR_INVALID_ADDRESS);
    }
    size = 8;
    SAME(GCReadPort(h->stream, 32, data, &size), GC_ERR_INVALID_ADDRESS);
    SAME(GCReadPort(h->stream, 4, data, &size), GC_ERR_INVALID_ADDRESS);
    SAME(GCWritePort(h->stream, 0, data, &size), GC_ERR_ACCESS_DENIED);
    SAME(GCWritePort(h->port, SERIAL_ADDRESS, data, &size), GC_ERR_INVALID_ADDRESS);
}

static void check_user_id(struct host *h) {
    char text[TEXT_SIZE] = "left side", back[TEXT_SIZE];
    size_t size = sizeof text;
    OK(GCWritePort(h->port, USER_ID_ADDRESS, text, &size));
    OK(GCReadPort(h->port, USER_ID_ADDRESS, back, &size));
    SAME(memcmp(text, back, sizeof text), 0);
    SAME(strcmp(h->camera->user_id, "left side"), 0);
}

static void test_registers(void) {
    static const enum reg read_only[] = {R_TEMPERATURE, R_PAYLOAD_SIZE, R_COUNTER_VALUE, R_ENCODER_VALUE,
                                         R_SENSOR_WIDTH, R_SENSOR_HEIGHT, R_TIMESTAMP_LATCH_VALUE};
    struct host h;
    struct camera *camera = make_camera("a", &SMALL);
    atomic_store(&camera->reg[R_TL_PARAMS_LOCKED], 1); /* left behind by somebody who was killed */
    open_device(&h, "a", &SMALL);
    SAME(read_reg(&h, R_TL_PARAMS_LOCKED), 0);
    SAME(read_reg(&h, R_WIDTH), 71);
    SAME(read_reg(&h, R_SENSOR_HEIGHT), 67);
    SAME(read_reg(&h, R_PIXEL_FORMAT), Mono8);
    for (size_t i = 0; i < sizeof read_only / sizeof read_only[0]; i++) check_refused(&h, read_only[i], 5);
    check_ranges(&h);
    check_locked(&h);
    check_addresses(&h);
    check_user_id(&h);
    uint64_t before = now_ns();
    OK(write_reg(&h, R_TIMESTAMP_LATCH, 1));
    CHECK(read_reg(&h, R_TIMESTAMP_LATCH_VALUE) >= before && read_reg(&h, R_TIMESTAMP_LATCH_VALUE) <= now_ns());
    close_device(&h);
    unmap_camera(camera);
}

/* ---- pictures ---- */

/* Two at once, then two after a pause in which the picture is put there beforehand. The buffers are exactly as large
 * as the picture: one byte more is the sanitizer's. */
static void check_format(struct host *h, uint64_t format, uint64_t width, uint64_t height) {
    struct shot f;
    OK(write_reg(h, R_WIDTH, width));
    OK(write_reg(h, R_HEIGHT, height));
    OK(write_reg(h, R_PIXEL_FORMAT, format));
    SAME(read_reg(h, R_PAYLOAD_SIZE), wanted_size(format, width, height));
    h->count = 0;
    announce(h, 2, wanted_size(format, width, height));
    start(h);
    for (uint64_t i = 0; i < 4; i++) {
        if (i == 0) simcam_pulse(h->camera, 2);
        if (i >= 2) sleep_ms(1);
        if (i >= 2) simcam_pulse(h->camera, 1);
        OK(fetch(h, SOON, &f));
        SAME(f.format, format);
        SAME(f.width, width);
        SAME(f.height, height);
        check_picture(h, &f, atomic_load(&h->camera->counter) - (i == 0 ? 2 : 1));
        requeue(h, &f);
    }
    stop(h);
    for (size_t i = 0; i < h->count; i++) OK(DSRevokeBuffer(h->stream, h->buffers[i], NULL, NULL));
}

static void test_formats(void) {
    static const uint64_t formats[] = {Mono8, Mono12, Mono12p, BayerRG8, RGB8};
    static const uint64_t sizes[][2] = {{71, 67}, {64, 65}, {65, 67}, {71, 64}};
    const struct sensor *sensors[] = {&SMALL, &COLOUR};
    for (size_t s = 0; s < 2; s++) {
        struct host h;
        unmap_camera(make_camera("a", sensors[s]));
        open_device(&h, "a", sensors[s]);
        SAME(read_reg(&h, R_PIXEL_FORMAT), s ? RGB8 : Mono8);
        trigger_by(&h, TRIGGER_SOURCE_LINE0);
        for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
                check_format(&h, formats[f], sizes[i][0], sizes[i][1]);
        close_device(&h);
    }
}

static bool is_prepared(struct host *h, HANDLE buffer, uint64_t trigger) {
    struct buffer now;
    CHECK(stream_look(inside(h), buffer, &now));
    return now.state == QUEUED && now.rendered == trigger;
}

/* Which one is filled next is the producer's choice. */
static bool is_prepared_in_any(struct host *h, uint64_t trigger) {
    bool found = false;
    for (size_t i = 0; i < h->count; i++) found = found || is_prepared(h, h->buffers[i], trigger);
    return found;
}

/* A picture that was put there beforehand is not taken for another format's, nor from memory that the host had. */
static void test_prepared_pictures(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &COLOUR));
    open_line(&h, "a", &COLOUR, 1);
    HANDLE buffer = h.buffers[0];
    EVENTUALLY(is_prepared(&h, buffer, 1));
    OK(write_reg(&h, R_TL_PARAMS_LOCKED, 0)); /* not every host locks */
    OK(write_reg(&h, R_PIXEL_FORMAT, BayerRG8));
    simcam_pulse(h.camera, 1);
    expect(&h, 1, 1);
    EVENTUALLY(is_prepared(&h, buffer, 2));
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_ALL_DISCARD));
    memset((void *)(uintptr_t)buffer_number(&h, buffer, BUFFER_INFO_BASE), 0xEE, 71 * 67);
    OK(DSQueueBuffer(h.stream, buffer));
    simcam_pulse(h.camera, 1);
    expect(&h, 2, 2);
    EVENTUALLY(is_prepared(&h, buffer, 3));
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_INPUT_TO_OUTPUT));
    OK(fetch(&h, 0, &f));
    CHECK(f.is_incomplete); /* nothing was exposed into it */
    SAME(f.filled, 0);
    memset(f.base, 0xEE, 71 * 67);
    requeue(&h, &f);
    simcam_pulse(h.camera, 1);
    expect(&h, 3, 3);
    close_device(&h);
}

/* ---- triggers ---- */

static void test_line0(void) {
    struct host h;
    uint64_t before = now_ns(), quickest = FOREVER, exposure;
    struct shot f;
    double us = 10.0;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 8);
    for (uint64_t i = 1; i <= 30; i++) {
        sleep_ms(3); /* by then it sleeps */
        uint64_t at = now_ns();
        SAME(simcam_pulse(h.camera, 1), i);
        expect(&h, i, i);
        if (now_ns() - at < quickest) quickest = now_ns() - at;
    }
    CHECK(quickest < LOOK_MS * MS / 2); /* the pulse wakes the camera: it does not look now and then */
    simcam_pulse(h.camera, 6); /* at once */
    for (uint64_t i = 31; i <= 36; i++) {
        OK(fetch(&h, SOON, &f));
        SAME(f.frame_id, i);
        SAME(f.chunks[CHUNK_COUNTER_VALUE], i);
        SAME(f.chunks[CHUNK_TIMESTAMP], f.timestamp);
        CHECK(f.timestamp >= before && f.timestamp <= now_ns());
        before = f.timestamp; /* and in order */
        memcpy(&exposure, &us, sizeof exposure);
        SAME(f.chunks[CHUNK_EXPOSURE_TIME], exposure);
        check_picture(&h, &f, i - 1);
        requeue(&h, &f);
    }
    SAME(read_reg(&h, R_COUNTER_VALUE), 36);
    SAME(read_reg(&h, R_ENCODER_VALUE), 3600);
    SAME(write_reg(&h, R_TRIGGER_SOFTWARE, 1), GC_ERR_SUCCESS); /* not heard: Line0 is the source */
    expect_nothing(&h);
    stop(&h);
    SAME(simcam_pulse(h.camera, 3), 39); /* counted though nobody acquires */
    start(&h);
    expect_nothing(&h); /* they are past */
    simcam_pulse(h.camera, 1);
    expect(&h, 40, 1); /* frame ids begin anew */
    OK(DSStopAcquisition(h.stream, 0)); /* a host that leaves it at that has stopped the camera as well */
    OK(DSStartAcquisition(h.stream, 0, FOREVER));
    simcam_pulse(h.camera, 1);
    expect_nothing(&h);
    close_device(&h);
}

static void test_software_trigger(void) {
    struct host h;
    unmap_camera(make_camera("a", &COLOUR));
    open_device(&h, "a", &COLOUR);
    trigger_by(&h, TRIGGER_SOURCE_SOFTWARE);
    OK(write_reg(&h, R_CHUNK_MODE_ACTIVE, 1));
    announce(&h, 3, stream_number(&h, STREAM_INFO_PAYLOAD_SIZE));
    OK(write_reg(&h, R_TRIGGER_SOFTWARE, 1)); /* it does not wait for one yet */
    start(&h);
    expect_nothing(&h);
    for (uint64_t i = 1; i <= 20; i++) {
        OK(write_reg(&h, R_TRIGGER_SOFTWARE, 1));
        expect(&h, i, i);
    }
    SAME(simcam_pulse(h.camera, 2), 20); /* the line is not its source */
    SAME(atomic_load(&h.camera->line0), 2);
    expect_nothing(&h);
    close_device(&h);
}

static void test_free_run(void) {
    struct host h;
    struct shot f;
    uint64_t last = 0, began = now_ns();
    unmap_camera(make_camera("a", &SMALL));
    open_device(&h, "a", &SMALL);
    OK(write_reg(&h, R_CHUNK_MODE_ACTIVE, 1));
    OK(write_real(&h, R_FRAME_RATE, 200.0));
    announce(&h, MAX_BUFFERS, stream_number(&h, STREAM_INFO_PAYLOAD_SIZE)); /* for all, however slow this is */
    start(&h);
    for (uint64_t i = 1; i <= 30; i++) {
        OK(fetch(&h, SOON, &f));
        SAME(f.frame_id, i);
        if (last) SAME(f.timestamp - last, 5 * MS);
        CHECK(f.timestamp <= now_ns());
        last = f.timestamp;
        check_picture(&h, &f, i - 1);
        requeue(&h, &f);
        OK(write_real(&h, R_EXPOSURE_TIME, 10.0 + (double)i)); /* while it exposes */
        read_reg(&h, R_TEMPERATURE);
    }
    CHECK(now_ns() - began >= 150 * MS);
    stop(&h);
    close_device(&h);
}

/* Several at the line at once: each trigger has a number and a time of its own. */
static void *pulses_1000(void *camera) {
    for (int i = 0; i < 1000; i++) simcam_pulse(camera, 1);
    return NULL;
}

static void test_triggers_at_once(void) {
    struct camera *camera = make_camera("a", &SMALL);
    pthread_t threads[4];
    uint64_t began = now_ns();
    atomic_store(&camera->reg[R_TRIGGER_MODE], 1);
    atomic_store(&camera->reg[R_TRIGGER_SOURCE], TRIGGER_SOURCE_LINE0);
    for (int i = 0; i < 4; i++) threads[i] = in_thread(pulses_1000, camera);
    for (int i = 0; i < 4; i++) result_of(threads[i]);
    SAME(atomic_load(&camera->counter), 4000);
    for (int i = 0; i < 4000; i++) CHECK(atomic_load(&camera->pulse_ns[i]) >= began);
    unmap_camera(camera);
}

static void check_times(uint32_t mode, const char *name) {
    struct sensor s = SMALL;
    struct host h;
    struct shot f;
    uint64_t number, hertz, before, scale = mode == TIMESTAMP_TICKS ? 8 : 1;
    size_t size = 8;
    s.timestamps = mode;
    unmap_camera(make_camera(name, &s));
    open_line(&h, name, &s, 2);
    before = now_ns();
    simcam_pulse(h.camera, 1);
    OK(fetch(&h, SOON, &f));
    SAME(DSGetBufferInfo(h.stream, f.buffer, BUFFER_INFO_TIMESTAMP, NULL, &number, &size),
         mode == TIMESTAMP_ABSENT ? GC_ERR_NOT_AVAILABLE : GC_ERR_SUCCESS);
    SAME(DSGetBufferInfo(h.stream, f.buffer, BUFFER_INFO_TIMESTAMP_NS, NULL, &number, &size),
         mode == TIMESTAMP_NS ? GC_ERR_SUCCESS : GC_ERR_NOT_AVAILABLE);
    CHECK(f.chunks[CHUNK_TIMESTAMP] >= before / scale && f.chunks[CHUNK_TIMESTAMP] <= now_ns() / scale);
    OK(DevGetInfo(h.device, DEVICE_INFO_TIMESTAMP_FREQUENCY, NULL, &hertz, &size));
    SAME(hertz * scale, 1000000000);
    close_device(&h);
}

static void test_timestamps(void) {
    check_times(TIMESTAMP_NS, "ns");
    check_times(TIMESTAMP_TICKS, "ticks");
    check_times(TIMESTAMP_ABSENT, "absent");
}

/* ---- faults ---- */

static void test_drop(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    atomic_store(&h.camera->faults.next[EFFECT_DROPPED], 2);
    simcam_pulse(h.camera, 3);
    expect(&h, 3, 3);
    SAME(lost_frames(&h), 2);
    SAME(stream_number(&h, STREAM_INFO_NUM_UNDERRUN), 0);
    SAME(atomic_load(&h.camera->faults.next[EFFECT_DROPPED]), 0);
    close_device(&h);
}

static void test_incomplete(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &SMALL));
    write_pictures("a", &SMALL, true); /* its second picture could not be read */
    open_line(&h, "a", &SMALL, 4);
    atomic_store(&h.camera->faults.next[EFFECT_INCOMPLETE], 1);
    simcam_pulse(h.camera, 3);
    for (uint64_t i = 1; i <= 2; i++) {
        OK(fetch(&h, SOON, &f));
        SAME(f.chunks[CHUNK_COUNTER_VALUE], i);
        CHECK(f.is_incomplete);
        SAME(f.filled, sent(&f, 71 * 67 / 2));
        requeue(&h, &f);
    }
    expect(&h, 3, 3);
    close_device(&h);
}

static void test_identical(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    simcam_pulse(h.camera, 1);
    expect(&h, 1, 1);
    EVENTUALLY(is_prepared_in_any(&h, 2)); /* the right picture is there already, and yet */
    atomic_store(&h.camera->faults.next[EFFECT_IDENTICAL], 1);
    simcam_pulse(h.camera, 2);
    OK(fetch(&h, SOON, &f));
    SAME(f.frame_id, 2);
    SAME(f.chunks[CHUNK_COUNTER_VALUE], 2);
    check_picture(&h, &f, 0);
    requeue(&h, &f);
    expect(&h, 3, 3);
    close_device(&h);
}

static void test_starve(void) {
    struct host h;
    struct shot f[2];
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 2);
    atomic_store(&h.camera->faults.starve_until_ns, UINT64_MAX);
    simcam_pulse(h.camera, 3);
    EVENTUALLY(stream_number(&h, STREAM_INFO_NUM_UNDERRUN) == 3);
    atomic_store(&h.camera->faults.starve_until_ns, 0);
    simcam_pulse(h.camera, 2);
    for (int i = 0; i < 2; i++) OK(fetch(&h, SOON, &f[i]));
    simcam_pulse(h.camera, 1); /* the host itself holds all of them */
    EVENTUALLY(stream_number(&h, STREAM_INFO_NUM_UNDERRUN) == 4);
    for (int i = 0; i < 2; i++) requeue(&h, &f[i]);
    simcam_pulse(h.camera, 1);
    expect(&h, 7, 7);
    SAME(lost_frames(&h), 0);
    close_device(&h);
}

/* Whatever a host may try with a camera that was unplugged. */
static void check_dead(struct host *h) {
    uint64_t word;
    uint32_t status;
    size_t size = 8;
    SAME(GCReadPort(h->port, REGISTERS + 8 * R_WIDTH, &word, &size), GC_ERR_IO);
    SAME(GCReadPort(h->port, SERIAL_ADDRESS, &word, &size), GC_ERR_IO);
    SAME(write_reg(h, R_ACQUISITION_STOP, 1), GC_ERR_IO);
    SAME(DSStopAcquisition(h->stream, 0), GC_ERR_IO);
    SAME(DSStartAcquisition(h->stream, 0, FOREVER), GC_ERR_IO);
    OK(DevGetInfo(h->device, DEVICE_INFO_ACCESS_STATUS, NULL, &status, &size));
    SAME(status, DEVICE_ACCESS_STATUS_NOACCESS);
    SAME(stream_number(h, STREAM_INFO_IS_GRABBING), 0);
}

static void test_unplugged_while_waiting(void) {
    struct host h;
    HANDLE made;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    simcam_pulse(h.camera, 1);
    expect(&h, 1, 1);
    pthread_t waiter = in_thread(waits_for_ever, &h);
    EVENTUALLY(waiting_in(&h) == 1);
    unplug(h.camera, 60000);
    simcam_pulse(h.camera, 2); /* counted, not exposed */
    SAME(IFOpenDevice(the_if, "a", 3, &made), GC_ERR_INVALID_ID);
    SAME(write_reg(&h, R_ACQUISITION_START, 1), GC_ERR_IO);
    OK(EventKill(h.event));
    SAME(result_of(waiter), GC_ERR_ABORT);
    expect_nothing(&h);
    check_dead(&h);
    atomic_store(&h.camera->back_ns, now_ns());
    check_dead(&h); /* for ever */
    close_device(&h);
    open_line(&h, "a", &SMALL, 4);
    simcam_pulse(h.camera, 1);
    expect(&h, 4, 1); /* it went on counting */
    close_device(&h);
}

static void test_unplugged_while_holding(void) {
    struct host h;
    struct shot held, f;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    simcam_pulse(h.camera, 2);
    OK(fetch(&h, SOON, &held));
    EVENTUALLY(stream_number(&h, STREAM_INFO_NUM_AWAIT_DELIVERY) == 1);
    unplug(h.camera, 60000);
    OK(fetch(&h, 0, &f)); /* what had arrived is there */
    check_picture(&h, &f, 1);
    check_picture(&h, &held, 0);
    requeue(&h, &f);
    SAME(DSRevokeBuffer(h.stream, f.buffer, NULL, NULL), GC_ERR_BUSY);
    check_dead(&h);
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_ALL_DISCARD));
    OK(DSRevokeBuffer(h.stream, f.buffer, NULL, NULL));
    close_device(&h); /* with the other one still held */
}

/* Between the two steps of a stop, and while the frame of a long exposure is on its way. */
static void test_unplugged_while_stopping(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    OK(write_real(&h, R_EXPOSURE_TIME, 50000.0));
    simcam_pulse(h.camera, 1);
    sleep_ms(5);
    OK(write_reg(&h, R_ACQUISITION_STOP, 1));
    unplug(h.camera, 60000);
    SAME(DSStopAcquisition(h.stream, 0), GC_ERR_IO);
    SAME(stream_number(&h, STREAM_INFO_IS_GRABBING), 0);
    close_device(&h);
}

static void test_silent(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    atomic_store(&h.camera->faults.silent, 1);
    simcam_pulse(h.camera, 2);
    expect_nothing(&h);
    SAME(read_reg(&h, R_WIDTH), 71); /* it answers */
    SAME(atomic_load(&h.camera->exposures), 0);
    stop(&h);
    start(&h);
    simcam_pulse(h.camera, 1);
    expect(&h, 3, 1);
    close_device(&h);
}

/* The next call of this sort takes so long. */
static void slow_down(struct camera *camera, enum call call, unsigned ms) {
    atomic_store(&camera->faults.delay_ns[call], ms * (uint64_t)MS);
    atomic_store(&camera->faults.delays[call], 1);
}

static void *reads_slowly(void *argument) {
    struct host *h = argument;
    uint64_t began = now_ns();
    SAME(read_reg(h, R_WIDTH), 71);
    return (void *)(intptr_t)((now_ns() - began) / MS);
}

static void test_slow_register(void) {
    struct host slow, quick;
    unmap_camera(make_camera("slow", &SMALL));
    unmap_camera(make_camera("quick", &SMALL));
    open_line(&slow, "slow", &SMALL, 4);
    open_line(&quick, "quick", &SMALL, 4);
    slow_down(slow.camera, CALL_REGISTER, 600);
    pthread_t reader = in_thread(reads_slowly, &slow);
    EVENTUALLY(atomic_load(&slow.camera->faults.delays[CALL_REGISTER]) == 0); /* it is in there */
    uint64_t began = now_ns();
    for (uint64_t i = 1; i <= 5; i++) { /* nobody else waits, not even its own frames */
        simcam_pulse(quick.camera, 1);
        expect(&quick, i, i);
        simcam_pulse(slow.camera, 1);
        expect(&slow, i, i);
    }
    CHECK(now_ns() - began < 500 * MS);
    CHECK(result_of(reader) >= 600);
    close_device(&slow);
    close_device(&quick);
}

static uint64_t time_of_next(struct host *h) {
    struct shot f;
    simcam_pulse(h->camera, 1);
    OK(fetch(h, SOON, &f));
    requeue(h, &f);
    return f.timestamp;
}

static void test_clock_jumps(void) {
    static const int64_t hour_ns = 3600 * (int64_t)1000 * MS;
    struct sensor s = SMALL;
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    uint64_t before = time_of_next(&h);
    atomic_fetch_add(&h.camera->clock_offset_ns, hour_ns);
    uint64_t after = time_of_next(&h);
    CHECK(after - before >= (uint64_t)hour_ns && after - before < (uint64_t)hour_ns + SOON * (uint64_t)MS);
    atomic_fetch_add(&h.camera->clock_offset_ns, -hour_ns);
    CHECK(time_of_next(&h) - before < SOON * (uint64_t)MS);
    close_device(&h);
    s.timestamps = TIMESTAMP_TICKS;
    unmap_camera(make_camera("b", &s));
    open_line(&h, "b", &s, 4);
    atomic_store(&h.camera->clock_offset_ns, -(int64_t)now_ns() - hour_ns); /* behind its zero */
    after = time_of_next(&h);
    OK(write_reg(&h, R_TIMESTAMP_LATCH, 1));
    CHECK(read_reg(&h, R_TIMESTAMP_LATCH_VALUE) - after < SOON * (uint64_t)MS / 8); /* one clock, whoever asks */
    close_device(&h);
}

/* Nothing is exposed for a jump; the next trigger has the number after it. */
static void check_jump(struct host *h, int64_t by, uint64_t frame_id) {
    atomic_fetch_add(&h->camera->counter, (uint64_t)by);
    simcam_wake(h->camera);
    expect_nothing(h);
    uint64_t number = simcam_pulse(h->camera, 1);
    expect(h, number, frame_id);
}

static void test_counter_jumps(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    simcam_pulse(h.camera, 1);
    expect(&h, 1, 1);
    check_jump(&h, 1000000, 2);
    check_jump(&h, -500000, 3);
    check_jump(&h, 5, 4);
    check_jump(&h, -3, 5);
    check_jump(&h, PULSES, 6);
    SAME(stream_number(&h, STREAM_INFO_NUM_UNDERRUN), 0);
    SAME(lost_frames(&h), 0);
    close_device(&h);
}

/* ---- effects of one exposure, strays, ids, lines, widths ---- */

#define EFFECT(name) (1u << EFFECT_##name)

static void plan(struct host *h, uint64_t trigger, uint32_t effects) {
    atomic_store(&h->camera->faults.plan[trigger % PLANNED], trigger << EFFECT_BITS | effects);
}

/* The next frame by its id and its counter; it shows the picture of this trigger, and goes straight back. */
static struct shot expect_of(struct host *h, uint64_t counter, uint64_t frame_id, uint64_t picture) {
    struct shot f;
    OK(fetch(h, SOON, &f));
    SAME(f.frame_id, frame_id);
    SAME(f.chunks[CHUNK_COUNTER_VALUE], counter);
    check_picture(h, &f, picture - 1);
    requeue(h, &f);
    return f;
}

static void test_planned_effects(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 8);
    plan(&h, 2, EFFECT(DROPPED));
    plan(&h, 3, EFFECT(MISSED)); /* no exposure, and so no frame id */
    plan(&h, 5 + PLANNED, EFFECT(DROPPED)); /* not this one's, though in its place */
    simcam_pulse(h.camera, 5);
    expect(&h, 1, 1);
    expect(&h, 4, 3);
    expect(&h, 5, 4);
    expect_nothing(&h);
    SAME(lost_frames(&h), 1);
    SAME(atomic_load(&h.camera->exposures), 4);
    SAME(atomic_load(&h.camera->faults.plan[2]), 0);
    SAME(atomic_load(&h.camera->faults.plan[5]), (5 + PLANNED) << EFFECT_BITS | EFFECT(DROPPED));
    close_device(&h);
}

static void test_twice(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    plan(&h, 1, EFFECT(TWICE));
    simcam_pulse(h.camera, 1);
    struct shot first = expect_of(&h, 1, 1, 1), second = expect_of(&h, 1, 1, 1);
    SAME(first.timestamp, second.timestamp);
    simcam_pulse(h.camera, 1);
    expect(&h, 2, 2);
    close_device(&h);
    open_line(&h, "a", &SMALL, 1); /* no room for the other one */
    plan(&h, 3, EFFECT(TWICE));
    simcam_pulse(h.camera, 1);
    EVENTUALLY(stream_number(&h, STREAM_INFO_NUM_UNDERRUN) == 1);
    expect(&h, 3, 1);
    expect_nothing(&h);
    close_device(&h);
}

static void test_swapped(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    plan(&h, 2, EFFECT(SWAPPED));
    simcam_pulse(h.camera, 3);
    expect(&h, 1, 1);
    expect(&h, 3, 3);
    expect(&h, 2, 2);
    plan(&h, 4, EFFECT(SWAPPED));
    simcam_pulse(h.camera, 1);
    expect_nothing(&h);
    OK(write_reg(&h, R_ACQUISITION_STOP, 1)); /* what was exposed still comes */
    expect(&h, 4, 4);
    OK(write_reg(&h, R_ACQUISITION_START, 1));
    plan(&h, 5, EFFECT(SWAPPED));
    simcam_pulse(h.camera, 1);
    EVENTUALLY(atomic_load(&h.camera->exposures) == 5);
    unplug(h.camera, 60000); /* of a camera that is gone nothing comes */
    expect_nothing(&h);
    SAME(stream_number(&h, STREAM_INFO_NUM_QUEUED), 4);
    close_device(&h);
}

static void test_strays(void) {
    struct host h;
    struct shot f[4];
    unmap_camera(make_camera("a", &SMALL)); /* five pictures: a stray shows that of three triggers further */
    open_line(&h, "a", &SMALL, 8);
    simcam_pulse(h.camera, 1);
    f[0] = expect_of(&h, 1, 1, 1);
    atomic_store(&h.camera->faults.stray, 1);
    simcam_wake(h.camera);
    f[1] = expect_of(&h, 1, 2, 4); /* without any trigger */
    SAME(read_reg(&h, R_COUNTER_VALUE), 1);
    plan(&h, 2, EFFECT(STRAY_BEFORE) | EFFECT(STRAY_AFTER));
    simcam_pulse(h.camera, 1);
    f[2] = expect_of(&h, 1, 3, 5);
    f[3] = expect_of(&h, 2, 4, 2);
    CHECK(f[0].timestamp < f[1].timestamp && f[1].timestamp < f[2].timestamp);
    CHECK(f[2].timestamp < f[3].timestamp && f[3].timestamp - f[2].timestamp <= 5 * MS);
    f[0] = expect_of(&h, 2, 5, 5);
    SAME(f[0].timestamp - f[3].timestamp, 10000); /* at the end of the exposure */
    SAME(read_reg(&h, R_COUNTER_VALUE), 2);
    simcam_pulse(h.camera, 1);
    expect(&h, 3, 6);
    close_device(&h);
}

static void test_stray_before_any_trigger(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    atomic_store(&h.camera->faults.stray, 2);
    for (uint64_t i = 1; i <= 2; i++) expect_of(&h, 0, i, 3);
    simcam_pulse(h.camera, 1);
    expect(&h, 1, 3);
    close_device(&h);
}

static void test_no_chunks(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 1);
    atomic_store(&h.camera->faults.next[EFFECT_NO_CHUNKS], 2);
    simcam_pulse(h.camera, 1);
    for (uint64_t i = 1; i <= 2; i++) {
        OK(fetch(&h, SOON, &f));
        CHECK(!f.has_chunks);
        SAME(buffer_number(&h, f.buffer, BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE), 0);
        SAME(buffer_number(&h, f.buffer, BUFFER_INFO_PAYLOADTYPE), PAYLOAD_TYPE_IMAGE);
        check_picture(&h, &f, i - 1);
        requeue(&h, &f);
        simcam_pulse(h.camera, 1);
    }
    expect(&h, 3, 3);
    close_device(&h);
}

/* Starts anew, so that the ids do; frames have these ids, `count` of them. */
static void check_ids(struct host *h, const uint64_t *ids, size_t count) {
    stop(h);
    start(h);
    for (size_t i = 0; i < count; i++) {
        uint64_t trigger = simcam_pulse(h->camera, 1);
        expect(h, trigger, ids[i]);
    }
}

static void test_ids(void) {
    struct host h;
    struct shot f;
    uint64_t number;
    size_t size = 8;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    struct faults *faults = &h.camera->faults;
    atomic_store(&faults->id_offset, -1);
    check_ids(&h, (uint64_t[]){0, 1, 2}, 3);
    atomic_store(&faults->id_offset, 65533);
    check_ids(&h, (uint64_t[]){65534, 65535, 65536}, 3);
    atomic_store(&faults->id_bits, 16);
    check_ids(&h, (uint64_t[]){65534, 65535, 0, 1}, 4);
    atomic_store(&faults->id_skips_zero, 1);
    check_ids(&h, (uint64_t[]){65534, 65535, 1, 2}, 4);
    atomic_store(&faults->id_bits, 32);
    atomic_store(&faults->id_offset, 0xFFFFFFFD);
    check_ids(&h, (uint64_t[]){0xFFFFFFFE, 0xFFFFFFFF, 1}, 3);
    atomic_store(&faults->id_kind, IDS_ZERO);
    check_ids(&h, (uint64_t[]){0, 0}, 2);
    atomic_store(&faults->id_kind, IDS_COUNT);
    atomic_store(&faults->wrong_id, UINT64_MAX);
    atomic_store(&faults->next[EFFECT_WRONG_ID], 1);
    check_ids(&h, (uint64_t[]){UINT64_MAX, 0xFFFFFFFF, 1}, 3);
    atomic_store(&faults->next[EFFECT_NO_ID], 1);
    for (int i = 0; i < 2; i++) {
        simcam_pulse(h.camera, 1);
        EVENTUALLY(stream_number(&h, STREAM_INFO_NUM_AWAIT_DELIVERY) == 1);
        struct new_buffer_event told;
        OK(EventGetData(h.event, &told, &(size_t){sizeof told}, 0));
        SAME(DSGetBufferInfo(h.stream, told.buffer, BUFFER_INFO_FRAMEID, NULL, &number, &size), GC_ERR_NOT_AVAILABLE);
        f.buffer = told.buffer;
        requeue(&h, &f);
        atomic_store(&faults->id_kind, IDS_ABSENT);
    }
    close_device(&h);
}

/* The upper lines of the second trigger's picture, the lower ones of the first's: what the buffer held. */
static void check_short(struct host *h, uint64_t tells, uint64_t lines, uint64_t filled) {
    uint8_t upper[71 * 67], lower[71 * 67];
    struct shot f;
    atomic_store(&h->camera->faults.short_tells, tells);
    uint64_t first = simcam_pulse(h->camera, 1);
    OK(fetch(h, SOON, &f));
    check_picture(h, &f, first - 1);
    requeue(h, &f);
    EVENTUALLY(is_prepared_in_any(h, first + 1)); /* the right picture is there already, and yet */
    plan(h, first + 1, EFFECT(SHORT));
    simcam_pulse(h->camera, 1);
    OK(fetch(h, SOON, &f));
    CHECK(!f.is_incomplete && f.has_chunks);
    SAME(f.height, 67);
    SAME(buffer_number(h, f.buffer, BUFFER_INFO_DELIVERED_IMAGEHEIGHT), lines);
    SAME(f.filled, sent(&f, filled));
    wanted_picture(h->sensor, (first - 1) % 5, Mono8, 71, 67, lower);
    wanted_picture(h->sensor, first % 5, Mono8, 71, 67, upper);
    SAME(memcmp(f.base, upper, 71 * 33), 0);
    size_t after = tells == SHORT_TELLS_LINES ? 71 * 33 : 71 * 33 + 8 + 8 * CHUNKS; /* which come behind what was sent */
    SAME(memcmp(f.base + after, lower + after, 71 * 67 - after), 0);
    requeue(h, &f);
}

static void test_short(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 1);
    check_short(&h, SHORT_TELLS_BOTH, 33, 71 * 33);
    check_short(&h, SHORT_TELLS_LINES, 33, 71 * 67);
    check_short(&h, SHORT_TELLS_SIZE, 67, 71 * 33);
    simcam_pulse(h.camera, 1);
    expect(&h, 7, 7);
    close_device(&h);
}

static void check_padding(struct host *h, uint64_t format, uint64_t width, size_t line, size_t padding, bool is_told) {
    struct shot f;
    uint8_t wanted[3 * 71 * 67];
    OK(write_reg(h, R_WIDTH, width));
    OK(write_reg(h, R_PIXEL_FORMAT, format));
    atomic_store(&h->camera->faults.padding, 5);
    atomic_store(&h->camera->faults.padding_is_told, is_told);
    SAME(read_reg(h, R_PAYLOAD_SIZE), stream_number(h, STREAM_INFO_PAYLOAD_SIZE));
    h->count = 0;
    announce(h, 1, stream_number(h, STREAM_INFO_PAYLOAD_SIZE));
    start(h);
    uint64_t trigger = simcam_pulse(h->camera, 1);
    OK(fetch(h, SOON, &f));
    SAME(f.filled, sent(&f, (line + padding) * 67));
    SAME(f.filled, read_reg(h, R_PAYLOAD_SIZE));
    SAME(buffer_number(h, f.buffer, BUFFER_INFO_XPADDING), is_told ? padding : 0);
    SAME(f.chunks[CHUNK_COUNTER_VALUE], trigger);
    wanted_picture(h->sensor, (trigger - 1) % 5, format, width, 67, wanted);
    for (size_t y = 0; y < 67; y++) SAME(memcmp(f.base + y * (line + padding), wanted + y * line, line), 0);
    stop(h);
    OK(DSRevokeBuffer(h->stream, f.buffer, NULL, NULL));
}

static void test_padded_lines(void) {
    struct host h;
    unmap_camera(make_camera("a", &COLOUR));
    open_device(&h, "a", &COLOUR);
    trigger_by(&h, TRIGGER_SOURCE_LINE0);
    OK(write_reg(&h, R_CHUNK_MODE_ACTIVE, 1));
    check_padding(&h, Mono8, 71, 71, 5, true);
    check_padding(&h, RGB8, 71, 213, 5, false);
    check_padding(&h, Mono12, 64, 128, 5, true);
    check_padding(&h, Mono12p, 70, 105, 5, true);
    close_device(&h);
}

static void test_oldest_first(void) {
    struct host h;
    struct shot f;
    HANDLE used[6];
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 3);
    for (int oldest = 0; oldest < 2; oldest++) {
        atomic_store(&h.camera->faults.oldest_first, (uint64_t)oldest);
        for (int i = 0; i < 6; i++) {
            simcam_pulse(h.camera, 1);
            OK(fetch(&h, SOON, &f));
            used[i] = f.buffer;
            requeue(&h, &f);
        }
        for (int i = 3; i < 6; i++) CHECK(oldest ? used[i] == used[i - 3] && used[i] != used[i - 1] : used[i] == used[0]);
    }
    close_device(&h);
}

static void test_missed_while_exposing(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 8);
    OK(write_real(&h, R_EXPOSURE_TIME, 1e6)); /* long enough for any machine to send the other two meanwhile */
    atomic_store(&h.camera->faults.misses_while_exposing, 1);
    simcam_pulse(h.camera, 3);
    expect(&h, 1, 1);
    expect_nothing(&h);
    OK(write_real(&h, R_EXPOSURE_TIME, 10.0));
    simcam_pulse(h.camera, 1);
    expect(&h, 4, 2);
    SAME(read_reg(&h, R_COUNTER_VALUE), 4);
    close_device(&h);
}

static void check_counter(struct host *h, uint64_t counter, uint64_t bits, bool is_signed, uint64_t shown) {
    struct shot f;
    atomic_store(&h->camera->counter, counter);
    atomic_store(&h->camera->faults.counter_bits, bits);
    atomic_store(&h->camera->faults.counter_is_signed, is_signed);
    simcam_wake(h->camera);
    expect_nothing(h);
    simcam_pulse(h->camera, 1);
    OK(fetch(h, SOON, &f));
    SAME(f.chunks[CHUNK_COUNTER_VALUE], shown);
    SAME(read_reg(h, R_COUNTER_VALUE), shown);
    check_picture(h, &f, counter);
    requeue(h, &f);
}

static void test_narrow_counters(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 2);
    check_counter(&h, 65534, 16, false, 65535);
    check_counter(&h, 65535, 16, false, 0);
    check_counter(&h, 32767, 16, true, (uint64_t)-32768);
    check_counter(&h, 0x7FFFFFFF, 32, true, (uint64_t)INT32_MIN);
    check_counter(&h, 0xFFFFFFFF, 32, true, 0);
    check_counter(&h, 0xFFFFFFFF, 0, true, 0x100000000);
    atomic_store(&h.camera->faults.encoder_offset, -700);
    SAME(read_reg(&h, R_ENCODER_VALUE), 0x100000000 * 100 - 700);
    close_device(&h);
}

static void test_unplugged_after_a_trigger(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_device(&h, "a", &SMALL);
    trigger_by(&h, TRIGGER_SOURCE_SOFTWARE);
    announce(&h, 2, stream_number(&h, STREAM_INFO_PAYLOAD_SIZE));
    start(&h);
    atomic_store(&h.camera->faults.cable_ns, 60000 * (uint64_t)MS);
    atomic_store(&h.camera->faults.next[EFFECT_UNPLUGGED], 1);
    OK(write_reg(&h, R_TRIGGER_SOFTWARE, 1)); /* accepted */
    EVENTUALLY(!device_plugged(h.camera));
    check_dead(&h);
    expect_nothing(&h);
    SAME(atomic_load(&h.camera->counter), 1);
    SAME(atomic_load(&h.camera->exposures), 0);
    close_device(&h);
}

static void test_silent_for_good(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    atomic_store(&h.camera->faults.silent, 2);
    atomic_store(&h.camera->faults.stray, 1); /* nor that */
    for (uint64_t i = 1; i <= 2; i++) {
        SAME(simcam_pulse(h.camera, 1), i);
        expect_nothing(&h);
        stop(&h);
        start(&h);
    }
    expect_of(&h, 2, 1, 5);
    close_device(&h);
}

static void check_slow(struct camera *camera, enum call call, uint64_t began) {
    SAME(atomic_load(&camera->faults.delays[call]), 0);
    CHECK(now_ns() - began >= 50 * MS);
}

static void test_slow_calls(void) {
    struct host h;
    struct camera *camera = make_camera("a", &SMALL);
    for (enum call call = 0; call < CALLS; call++) slow_down(camera, call, 50);
    uint64_t began = now_ns();
    open_device(&h, "a", &SMALL);
    check_slow(camera, CALL_OPEN, began);
    began = now_ns();
    trigger_by(&h, TRIGGER_SOURCE_LINE0);
    check_slow(camera, CALL_REGISTER, began);
    announce(&h, 2, stream_number(&h, STREAM_INFO_PAYLOAD_SIZE));
    began = now_ns();
    start(&h);
    check_slow(camera, CALL_START, began);
    began = now_ns();
    OK(write_reg(&h, R_ACQUISITION_STOP, 1));
    check_slow(camera, CALL_ACQUISITION_STOP, began);
    began = now_ns();
    OK(DSStopAcquisition(h.stream, 0));
    check_slow(camera, CALL_STOP, began);
    began = now_ns();
    close_device(&h);
    check_slow(camera, CALL_CLOSE, began);
    unmap_camera(camera);
}

/* One camera twice in the list, and names that are no UTF-8. */
static void test_odd_listings(void) {
    HANDLE device;
    char id[8], text[TEXT_SIZE + 1];
    uint32_t count;
    struct camera *camera = make_camera("a", &SMALL);
    unmap_camera(make_camera("b", &SMALL));
    atomic_store(&camera->faults.listed, LISTED_TWICE);
    memcpy(camera->faults.vendor, "M\xFCller", 7);
    memset(camera->faults.model, 0xFF, NAME_SIZE); /* it fills its place */
    OK(IFUpdateDeviceList(the_if, NULL, 0));
    OK(IFGetNumDevices(the_if, &count));
    SAME(count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        OK(IFGetDeviceID(the_if, i, id, &(size_t){sizeof id}));
        SAME(strcmp(id, i < 2 ? "a" : "b"), 0);
    }
    OK(IFGetDeviceInfo(the_if, "a", DEVICE_INFO_VENDOR, NULL, text, &(size_t){sizeof text}));
    SAME(strcmp(text, "M\xFCller"), 0);
    OK(IFGetDeviceInfo(the_if, "a", DEVICE_INFO_MODEL, NULL, text, &(size_t){sizeof text}));
    SAME(strlen(text), NAME_SIZE);
    OK(IFGetDeviceInfo(the_if, "b", DEVICE_INFO_VENDOR, NULL, text, &(size_t){sizeof text}));
    SAME(strcmp(text, "inspectd"), 0);
    OK(IFOpenDevice(the_if, "a", 3, &device)); /* once */
    SAME(IFOpenDevice(the_if, "a", 3, &(HANDLE){NULL}), GC_ERR_RESOURCE_IN_USE);
    OK(DevClose(device));
    unmap_camera(camera);
}

/* The camera b is seen through a second interface as well; a device belongs to the one it was opened through. */
static void test_two_interfaces(void) {
    HANDLE second, first_device, second_device, parent;
    char id[16];
    uint32_t count;
    bool8_t changed;
    unmap_camera(make_camera("a", &SMALL));
    struct camera *camera = make_camera("b", &SMALL);
    SAME(TLOpenInterface(the_tl, "simcam2", &second), GC_ERR_INVALID_ID);
    atomic_store(&camera->faults.listed, LISTED_BY_TWO);
    OK(TLUpdateInterfaceList(the_tl, &changed, 0));
    SAME(changed, 1);
    OK(TLGetNumInterfaces(the_tl, &count));
    SAME(count, 2);
    OK(TLGetInterfaceID(the_tl, 1, id, &(size_t){sizeof id}));
    SAME(strcmp(id, "simcam2"), 0);
    OK(TLOpenInterface(the_tl, id, &second));
    SAME(TLOpenInterface(the_tl, id, &parent), GC_ERR_RESOURCE_IN_USE);
    OK(IFUpdateDeviceList(second, NULL, 0));
    OK(IFGetNumDevices(second, &count));
    SAME(count, 1);
    OK(IFGetDeviceID(second, 0, id, &(size_t){sizeof id}));
    SAME(strcmp(id, "b"), 0);
    OK(IFUpdateDeviceList(the_if, NULL, 0));
    OK(IFGetNumDevices(the_if, &count));
    SAME(count, 2);
    OK(IFOpenDevice(second, "b", 3, &second_device));
    OK(IFOpenDevice(the_if, "a", 3, &first_device));
    OK(DevGetParentIF(second_device, &parent));
    CHECK(parent == second);
    OK(IFClose(second)); /* with its device, and no other */
    SAME(DevClose(second_device), GC_ERR_INVALID_HANDLE);
    OK(DevClose(first_device));
    atomic_store(&camera->faults.listed, LISTED_ONCE);
    OK(TLUpdateInterfaceList(the_tl, &changed, 0));
    SAME(changed, 1);
    OK(TLGetNumInterfaces(the_tl, &count));
    SAME(count, 1);
    unmap_camera(camera);
}

/* More than a pipe holds: the library waits for somebody to read, and so does the camera. */
static void test_chatter(void) {
    static char text[4096];
    struct host h;
    int pipes[2], stderr_before = dup(2);
    size_t heard = 0;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    SAME(pipe(pipes), 0);
    CHECK(dup2(pipes[1], 2) == 2);
    atomic_store(&h.camera->faults.chatter, 200000);
    simcam_wake(h.camera);
    EVENTUALLY(atomic_load(&h.camera->faults.chatter) == 0);
    simcam_pulse(h.camera, 1);
    expect_nothing(&h);
    while (heard < 200000) {
        ssize_t size = read(pipes[0], text, sizeof text);
        CHECK(size > 0);
        heard += (size_t)size;
    }
    SAME(heard, 200000);
    CHECK(dup2(stderr_before, 2) == 2);
    expect(&h, 1, 1);
    close(pipes[0]), close(pipes[1]), close(stderr_before);
    close_device(&h);
}

/* ---- buffers ---- */

static void test_queueing(void) {
    struct host h;
    struct shot f;
    HANDLE at;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 3);
    for (uint32_t i = 0; i < 3; i++) { /* in the order of announcing */
        OK(DSGetBufferID(h.stream, i, &at));
        CHECK(at == h.buffers[i]);
    }
    SAME(DSGetBufferID(h.stream, 3, &at), GC_ERR_INVALID_INDEX);
    SAME(DSQueueBuffer(h.stream, h.buffers[1]), GC_ERR_RESOURCE_IN_USE);
    SAME(DSRevokeBuffer(h.stream, h.buffers[1], NULL, NULL), GC_ERR_BUSY);
    SAME(buffer_number(&h, h.buffers[1], BUFFER_INFO_IS_QUEUED), 1);
    stop(&h);
    for (size_t i = 1; i < 3; i++) OK(DSRevokeBuffer(h.stream, h.buffers[i], NULL, NULL));
    start(&h);
    simcam_pulse(h.camera, 1);
    EVENTUALLY(stream_number(&h, STREAM_INFO_NUM_AWAIT_DELIVERY) == 1);
    SAME(DSQueueBuffer(h.stream, h.buffers[0]), GC_ERR_RESOURCE_IN_USE); /* waits to be fetched */
    SAME(DSRevokeBuffer(h.stream, h.buffers[0], NULL, NULL), GC_ERR_BUSY);
    SAME(buffer_number(&h, h.buffers[0], BUFFER_INFO_IS_QUEUED), 1);
    SAME(EventGetData(h.event, NULL, &(size_t){16}, 0), GC_ERR_INVALID_PARAMETER);
    SAME(EventGetData(h.event, &at, &(size_t){8}, 0), GC_ERR_BUFFER_TOO_SMALL);
    SAME(EventGetData(h.event, &at, NULL, 0), GC_ERR_INVALID_PARAMETER);
    OK(fetch(&h, 0, &f)); /* none of that has fetched it */
    CHECK(f.buffer == h.buffers[0]);
    requeue(&h, &f);
    SAME(DSQueueBuffer(h.stream, f.buffer), GC_ERR_RESOURCE_IN_USE);
    close_device(&h);
}

static void check_revoked(struct host *h, HANDLE gone) {
    uint64_t number;
    size_t size = 8;
    SAME(DSRevokeBuffer(h->stream, gone, NULL, NULL), GC_ERR_INVALID_HANDLE);
    SAME(DSQueueBuffer(h->stream, gone), GC_ERR_INVALID_HANDLE);
    SAME(DSGetBufferInfo(h->stream, gone, BUFFER_INFO_BASE, NULL, &number, &size), GC_ERR_INVALID_HANDLE);
    SAME(DSGetBufferChunkData(h->stream, gone, NULL, &size), GC_ERR_INVALID_HANDLE);
}

/* Until the picture of trigger `trigger` is in the only buffer, that is the producer's. True if it was seen filling. */
static bool watch_filling(struct host *h, uint64_t trigger) {
    bool was_seen = false;
    for (uint64_t until = now_ns() + SOON * (uint64_t)MS; !is_prepared(h, h->buffers[0], trigger); sleep_ms(0)) {
        CHECK(now_ns() < until);
        was_seen = was_seen || buffer_number(h, h->buffers[0], BUFFER_INFO_IS_ACQUIRING);
        SAME(stream_number(h, STREAM_INFO_NUM_QUEUED), 1);
        SAME(buffer_number(h, h->buffers[0], BUFFER_INFO_IS_QUEUED), 1);
        CHECK(buffer_number(h, h->buffers[0], BUFFER_INFO_BASE) != 0);
        SAME(DSQueueBuffer(h->stream, h->buffers[0]), GC_ERR_RESOURCE_IN_USE);
        SAME(DSRevokeBuffer(h->stream, h->buffers[0], NULL, NULL), GC_ERR_BUSY);
        OK(DSFlushQueue(h->stream, ACQ_QUEUE_UNQUEUED_TO_INPUT));
    }
    return was_seen;
}

static void test_being_filled(void) {
    static const struct sensor large = {1000, 1000, 3, 1, TIMESTAMP_NS}; /* takes its time */
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &large));
    open_device(&h, "a", &large);
    trigger_by(&h, TRIGGER_SOURCE_LINE0);
    OK(write_reg(&h, R_PIXEL_FORMAT, Mono12p));
    announce(&h, 1, stream_number(&h, STREAM_INFO_PAYLOAD_SIZE));
    start(&h);
    for (uint64_t i = 1; !watch_filling(&h, i); i++) {
        CHECK(i < 50);
        simcam_pulse(h.camera, 1);
        OK(fetch(&h, SOON, &f));
        requeue(&h, &f);
    }
    close_device(&h);
}

static void test_revoking(void) {
    struct host h, other;
    struct shot f;
    void *base, *user;
    uint8_t *ours = malloc(71 * 67);
    unmap_camera(make_camera("a", &SMALL));
    unmap_camera(make_camera("b", &SMALL));
    open_line(&h, "a", &SMALL, 1);
    open_line(&other, "b", &SMALL, 1);
    check_revoked(&h, other.buffers[0]); /* another stream's */
    check_revoked(&h, NULL);
    SAME(DSAnnounceBuffer(h.stream, NULL, 8, NULL, &h.buffers[1]), GC_ERR_INVALID_PARAMETER);
    simcam_pulse(h.camera, 1);
    OK(fetch(&h, SOON, &f));
    OK(DSRevokeBuffer(h.stream, f.buffer, &base, &user)); /* delivered: the host's, also while it acquires */
    CHECK(!base && user == &h); /* memory of the producer's is not handed out */
    check_revoked(&h, f.buffer);
    OK(DSAnnounceBuffer(h.stream, ours, 71 * 67, (char *)&h + 1, &h.buffers[1]));
    h.count = 2;
    OK(DSQueueBuffer(h.stream, h.buffers[1]));
    simcam_pulse(h.camera, 1);
    OK(fetch(&h, SOON, &f));
    CHECK(f.base == ours && !f.has_chunks); /* no room for them */
    check_picture(&h, &f, 1);
    requeue(&h, &f);
    stop(&h);
    OK(DSRevokeBuffer(h.stream, f.buffer, &base, &user)); /* queued, and yet: nothing acquires */
    CHECK(base == ours && user == (char *)&h + 1);
    SAME(stream_number(&h, STREAM_INFO_NUM_ANNOUNCED), 0);
    free(ours);
    close_device(&h);
    close_device(&other);
}

static void check_places(struct host *h, uint64_t queued, uint64_t waiting) {
    SAME(stream_number(h, STREAM_INFO_NUM_QUEUED), queued);
    SAME(stream_number(h, STREAM_INFO_NUM_AWAIT_DELIVERY), waiting);
}

static void test_flushing(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &SMALL));
    open_device(&h, "a", &SMALL);
    announce(&h, 4, 71 * 67);
    check_places(&h, 4, 0);
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_INPUT_TO_OUTPUT));
    check_places(&h, 0, 4);
    OK(fetch(&h, 0, &f));
    CHECK(f.buffer == h.buffers[0] && f.is_incomplete); /* the oldest, and empty */
    SAME(buffer_number(&h, f.buffer, BUFFER_INFO_NEW_DATA), 0);
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_OUTPUT_DISCARD));
    check_places(&h, 0, 0);
    OK(DSQueueBuffer(h.stream, h.buffers[3]));
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_INPUT_TO_OUTPUT));
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_UNQUEUED_TO_INPUT)); /* also the one that was fetched */
    check_places(&h, 3, 1);
    OK(EventFlush(h.event));
    check_places(&h, 3, 0);
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_ALL_TO_INPUT));
    check_places(&h, 4, 0);
    OK(DSFlushQueue(h.stream, ACQ_QUEUE_ALL_DISCARD));
    check_places(&h, 0, 0);
    SAME(DSFlushQueue(h.stream, -1), GC_ERR_INVALID_PARAMETER);
    SAME(DSFlushQueue(h.stream, 5), GC_ERR_INVALID_PARAMETER);
    close_device(&h);
}

static void test_flushing_while_streaming(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    for (uint64_t round = 0; round < 20; round++) { /* what waits is thrown away; the next frames come as ever */
        simcam_pulse(h.camera, 3);
        EVENTUALLY(stream_number(&h, STREAM_INFO_NUM_AWAIT_DELIVERY) == 3);
        OK(DSFlushQueue(h.stream, round % 2 ? ACQ_QUEUE_ALL_TO_INPUT : ACQ_QUEUE_OUTPUT_DISCARD));
        OK(DSFlushQueue(h.stream, ACQ_QUEUE_UNQUEUED_TO_INPUT));
        check_places(&h, 4, 0);
        simcam_pulse(h.camera, 1);
        expect(&h, 4 * round + 4, 4 * round + 4);
    }
    close_device(&h);
}

static void test_small_buffers(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &SMALL));
    open_device(&h, "a", &SMALL);
    trigger_by(&h, TRIGGER_SOURCE_LINE0);
    OK(write_reg(&h, R_CHUNK_MODE_ACTIVE, 1));
    announce(&h, 1, 100);
    announce(&h, 1, 0);
    announce(&h, 1, 71 * 67 - 1);
    announce(&h, 1, 71 * 67 + 7);
    start(&h);
    simcam_pulse(h.camera, 4);
    for (uint64_t i = 1; i <= 4; i++) {
        OK(fetch(&h, SOON, &f));
        SAME(f.frame_id, i);
        CHECK(f.filled <= buffer_number(&h, f.buffer, BUFFER_INFO_SIZE)); /* the host reads so much */
        SAME(f.is_incomplete, f.buffer != h.buffers[3]);
        CHECK(!f.has_chunks);
        if (!f.is_incomplete) check_picture(&h, &f, f.frame_id - 1);
    }
    close_device(&h);
}

/* ---- waiting ---- */

static void test_time_outs(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 2);
    uint64_t began = now_ns();
    SAME(fetch(&h, 0, &f), GC_ERR_TIMEOUT);
    SAME(fetch(&h, 30, &f), GC_ERR_TIMEOUT);
    CHECK(now_ns() - began >= 30 * MS);
    static const uint64_t endless[] = {FOREVER, FOREVER - 1, (uint64_t)1 << 63, 1000000000000u, (uint64_t)1 << 44};
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        simcam_pulse(h.camera, 1);
        OK(fetch(&h, endless[i], &f)); /* and does not overflow into the past */
        requeue(&h, &f);
    }
    pthread_t waiter = in_thread(waits_for_ever, &h);
    EVENTUALLY(waiting_in(&h) == 1);
    simcam_pulse(h.camera, 1);
    SAME(result_of(waiter), GC_ERR_SUCCESS);
    close_device(&h);
}

static void test_event_kill(void) {
    struct host h;
    struct shot f;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 2);
    pthread_t first = in_thread(waits_for_ever, &h), second = in_thread(waits_for_ever, &h);
    EVENTUALLY(waiting_in(&h) == 2);
    OK(EventKill(h.event)); /* one call, one wait */
    EVENTUALLY(waiting_in(&h) == 1);
    OK(EventKill(h.event));
    SAME(result_of(first), GC_ERR_ABORT);
    SAME(result_of(second), GC_ERR_ABORT);
    OK(EventKill(h.event)); /* nobody waits: the next one does not either */
    SAME(fetch(&h, FOREVER, &f), GC_ERR_ABORT);
    SAME(fetch(&h, 0, &f), GC_ERR_TIMEOUT);
    first = in_thread(waits_for_ever, &h);
    EVENTUALLY(waiting_in(&h) == 1);
    OK(GCUnregisterEvent(h.stream, EVENT_NEW_BUFFER));
    SAME(result_of(first), GC_ERR_ABORT);
    SAME(EventKill(h.event), GC_ERR_INVALID_HANDLE);
    OK(GCRegisterEvent(h.stream, EVENT_NEW_BUFFER, &h.event));
    OK(GCUnregisterEvent(h.stream, EVENT_NEW_BUFFER));
    OK(GCRegisterEvent(h.stream, EVENT_NEW_BUFFER, &h.event));
    SAME(fetch(&h, 0, &f), GC_ERR_TIMEOUT); /* nothing is left of that */
    close_device(&h);
}

/* Closing ends the waits, and frees nothing under them. */
static void test_closing_under_a_wait(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    for (int i = 0; i < 10; i++) {
        open_line(&h, "a", &SMALL, 2);
        pthread_t first = in_thread(waits_for_ever, &h), second = in_thread(waits_for_ever, &h);
        EVENTUALLY(waiting_in(&h) == 2);
        if (i % 2) OK(DSClose(h.stream));
        close_device(&h);
        SAME(result_of(first), GC_ERR_ABORT);
        SAME(result_of(second), GC_ERR_ABORT);
    }
}

/* One thread closes what others are using: they are refused, and nothing is freed under them. */
static void *uses_it(void *argument) {
    struct host *h = argument;
    struct new_buffer_event told;
    uint64_t word;
    for (int error = 0; error != GC_ERR_INVALID_HANDLE && error != GC_ERR_NOT_INITIALIZED;) {
        size_t size = sizeof told, small = sizeof word;
        error = EventGetData(h->event, &told, &size, 1);
        if (!error) DSQueueBuffer(h->stream, told.buffer);
        DSGetInfo(h->stream, STREAM_INFO_NUM_QUEUED, NULL, &word, &small);
        DSStopAcquisition(h->stream, 0);
        DSStartAcquisition(h->stream, 0, FOREVER);
        small = sizeof word;
        GCReadPort(h->port, REGISTERS, &word, &small);
        GCReadPort(h->stream, 0, &word, &small);
    }
    return NULL;
}

static void test_closing_under_calls(void) {
    pthread_t threads[3];
    struct host h;
    struct camera *camera = make_camera("a", &SMALL);
    for (int i = 0; i < 8; i++) {
        open_line(&h, "a", &SMALL, 4);
        for (int n = 0; n < 3; n++) threads[n] = in_thread(uses_it, &h);
        for (int n = 0; n < 20; n++) {
            simcam_pulse(camera, 1);
            sleep_ms(1);
        }
        if (i % 4 == 0) OK(DSClose(h.stream));
        else if (i % 4 == 1) OK(DevClose(h.device));
        else if (i % 4 == 2) OK(IFClose(the_if));
        else OK(TLClose(the_tl));
        for (int n = 0; n < 3; n++) result_of(threads[n]);
        unmap_camera(h.camera);
        OK(GCCloseLib());
        open_library();
    }
    unmap_camera(camera);
}

/* ---- closing and starting anew ---- */

static void test_closing_everything_open(void) {
    struct host h;
    struct shot held;
    uint8_t *ours = malloc(8192);
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 5);
    OK(DSAnnounceBuffer(h.stream, ours, 8192, (char *)&h + h.count, &h.buffers[h.count]));
    OK(DSQueueBuffer(h.stream, h.buffers[h.count++]));
    simcam_pulse(h.camera, 3);
    OK(fetch(&h, SOON, &held)); /* one held, others waiting or queued, and more pulses on their way */
    simcam_pulse(h.camera, 20);
    OK(GCCloseLib());
    SAME(DevClose(h.device), GC_ERR_NOT_INITIALIZED); /* it is closed with the library */
    unmap_camera(h.camera);
    free(ours); /* the host's own, and not freed by anybody else */
    open_library();
    open_line(&h, "a", &SMALL, 1);
    simcam_pulse(h.camera, 1);
    expect(&h, 24, 1);
    close_device(&h);
}

static size_t open_files(void) {
    size_t count = 0;
    DIR *listing = opendir("/proc/self/fd");
    CHECK(listing);
    while (readdir(listing)) count++;
    closedir(listing);
    return count;
}

static size_t mapped_cameras(void) {
    char line[PATH_MAX + 256];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) count += strstr(line, world) != NULL;
    fclose(maps);
    return count;
}

static void test_200_starts(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    for (uint64_t i = 0; i < 200; i++) {
        stop(&h);
        start(&h);
        if (i % 4) continue;
        uint64_t number = simcam_pulse(h.camera, 1);
        expect(&h, number, 1);
    }
    close_device(&h);
}

static void test_200_openings(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    size_t files = open_files(), maps = mapped_cameras();
    for (uint64_t i = 1; i <= 200; i++) {
        open_line(&h, "a", &SMALL, 2);
        simcam_pulse(h.camera, 1);
        if (i % 2) expect(&h, i, 1); /* every other one is closed over its frame */
        close_device(&h);
    }
    SAME(open_files(), files);
    SAME(mapped_cameras(), maps);
}

/* It stops by itself after as many frames as were asked for, and not for those that are lost on their way. */
static void test_frames_wanted(void) {
    struct host h;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 4);
    stop(&h);
    SAME(DSStartAcquisition(h.stream, 0, 0), GC_ERR_INVALID_PARAMETER);
    for (uint64_t round = 0; round < 3; round++) {
        OK(DSStartAcquisition(h.stream, 0, 2));
        OK(write_reg(&h, R_ACQUISITION_START, 1));
        SAME(DSStartAcquisition(h.stream, 0, 2), GC_ERR_RESOURCE_IN_USE);
        SAME(stream_number(&h, STREAM_INFO_IS_GRABBING), 1);
        atomic_store(&h.camera->faults.next[EFFECT_DROPPED], 1);
        simcam_pulse(h.camera, 5);
        expect(&h, 5 * round + 2, 2);
        expect(&h, 5 * round + 3, 3);
        EVENTUALLY(stream_number(&h, STREAM_INFO_IS_GRABBING) == 0);
        expect_nothing(&h);
        if (round == 1) OK(DSStopAcquisition(h.stream, 0)); /* it has stopped already, and that is no harm */
        OK(write_reg(&h, R_ACQUISITION_STOP, 1));
    }
    OK(DSRevokeBuffer(h.stream, h.buffers[0], NULL, NULL)); /* nothing acquires */
    close_device(&h);
}

/* AcquisitionStop and AcquisitionStart under a hail of triggers: no frame of a trigger that has not been. */
static void *pulses_on(void *argument) {
    struct host *h = argument;
    for (int i = 0; i < 1500; i++) {
        simcam_pulse(h->camera, 1);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 20000}, NULL);
    }
    return NULL;
}

static void test_starts_under_triggers(void) {
    struct host h;
    struct shot f;
    uint64_t last = 0;
    unmap_camera(make_camera("a", &SMALL));
    open_line(&h, "a", &SMALL, 8);
    pthread_t thread = in_thread(pulses_on, &h);
    for (int i = 0; i < 300; i++) {
        OK(write_reg(&h, R_ACQUISITION_STOP, 1));
        OK(write_reg(&h, R_ACQUISITION_START, 1));
        for (int n = 0; n < 4 && fetch(&h, 0, &f) == 0; n++) {
            CHECK(f.chunks[CHUNK_COUNTER_VALUE] > last);
            last = f.chunks[CHUNK_COUNTER_VALUE];
            CHECK(last <= atomic_load(&h.camera->counter));
            requeue(&h, &f);
        }
    }
    result_of(thread);
    close_device(&h);
}

/* ---- several at once ---- */

static void *plays_alone(void *argument) {
    const char *name = argument;
    struct host h;
    open_line(&h, name, &COLOUR, 4);
    for (uint64_t i = 1; i <= 100; i++) {
        simcam_pulse(h.camera, 1);
        expect(&h, i, i);
    }
    close_device(&h);
    return NULL;
}

static void test_several_cameras(void) {
    static char cameras[4][4] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) unmap_camera(make_camera(cameras[i], &COLOUR));
    for (int i = 0; i < 4; i++) threads[i] = in_thread(plays_alone, cameras[i]);
    for (int i = 0; i < 4; i++) result_of(threads[i]);
}

/* Another process at the camera's line: it maps the file, and the frames come here. */
static void pulse_from_afar(int go) {
    char byte;
    struct camera *camera = map_camera("a");
    SAME(read(go, &byte, 1), 1);
    for (int i = 0; i < 60; i++) {
        simcam_pulse(camera, 1);
        sleep_ms(1);
    }
    _exit(0);
}

static void test_second_process(void) {
    struct host h;
    int pipes[2], status;
    unmap_camera(make_camera("a", &SMALL));
    SAME(pipe(pipes), 0);
    pid_t child = fork(); /* before there are threads */
    CHECK(child >= 0);
    if (child == 0) pulse_from_afar(pipes[0]);
    open_line(&h, "a", &SMALL, MAX_BUFFERS); /* for all of them, however slow this is */
    SAME(write(pipes[1], "x", 1), 1);
    for (uint64_t i = 1; i <= 60; i++) expect(&h, i, i);
    SAME(waitpid(child, &status, 0), child);
    SAME(status, 0);
    SAME(stream_number(&h, STREAM_INFO_NUM_UNDERRUN), 0);
    close(pipes[0]);
    close(pipes[1]);
    close_device(&h);
}

/* Another process that has the camera open, and dies of it. */
static void test_held_by_a_process(void) {
    HANDLE device;
    int pipes[2], status;
    char byte;
    unmap_camera(make_camera("a", &SMALL));
    SAME(pipe(pipes), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        OK(IFOpenDevice(the_if, "a", 3, &device));
        SAME(write(pipes[1], "x", 1), 1);
        for (;;) pause();
    }
    SAME(read(pipes[0], &byte, 1), 1);
    SAME(IFOpenDevice(the_if, "a", 3, &device), GC_ERR_RESOURCE_IN_USE);
    SAME(ask_number(ask_listed_device, DEVICE_INFO_ACCESS_STATUS), DEVICE_ACCESS_STATUS_BUSY);
    SAME(kill(child, SIGKILL), 0);
    SAME(waitpid(child, &status, 0), child);
    OK(IFOpenDevice(the_if, "a", 3, &device));
    OK(DevClose(device));
    close(pipes[0]);
    close(pipes[1]);
}

/* ---- */

#define TEST(name) {#name, test_##name}
static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    TEST(second_process), TEST(held_by_a_process), TEST(library), TEST(lists), TEST(infos), TEST(long_texts),
    TEST(handles), TEST(closing_from_above), TEST(opened_twice), TEST(asking_disturbs_nobody), TEST(registers), TEST(formats),
    TEST(prepared_pictures), TEST(line0), TEST(software_trigger), TEST(free_run), TEST(triggers_at_once),
    TEST(timestamps), TEST(drop), TEST(incomplete), TEST(identical), TEST(starve), TEST(unplugged_while_waiting),
    TEST(unplugged_while_holding), TEST(unplugged_while_stopping), TEST(silent), TEST(slow_register),
    TEST(clock_jumps), TEST(counter_jumps),
    TEST(planned_effects), TEST(twice), TEST(swapped), TEST(strays), TEST(stray_before_any_trigger), TEST(no_chunks),
    TEST(ids), TEST(short), TEST(padded_lines), TEST(oldest_first), TEST(missed_while_exposing), TEST(narrow_counters),
    TEST(unplugged_after_a_trigger), TEST(silent_for_good), TEST(slow_calls), TEST(odd_listings),
    TEST(two_interfaces), TEST(chatter),
    TEST(queueing), TEST(being_filled), TEST(revoking), TEST(flushing),
    TEST(flushing_while_streaming), TEST(small_buffers), TEST(time_outs), TEST(event_kill),
    TEST(closing_under_a_wait), TEST(closing_under_calls), TEST(closing_everything_open), TEST(200_starts),
    TEST(200_openings), TEST(frames_wanted), TEST(starts_under_triggers), TEST(several_cameras),
};

#define FIELD(name) printf("%s %zu %zu\n", #name, offsetof(struct camera, name), sizeof((struct camera *)0)->name)
#define FAULT(name) FIELD(faults.name)
#define NODE(name) FIELD(nodes.name)
#define NUMBER(name) printf("%s %d 0\n", #name, (int)name)

static int print_layout(void) {
    FIELD(magic), FIELD(size), FIELD(image_count), FIELD(width), FIELD(height), FIELD(channels), FIELD(timestamp_mode);
    FIELD(serial), FIELD(user_id), FIELD(fingerprint), FIELD(wake), FIELD(reserved), FIELD(line0), FIELD(counter);
    FIELD(clock_offset_ns), FIELD(plug), FIELD(back_ns), FIELD(exposures), FIELD(nodes), FIELD(reg);
    FIELD(pulse_ns), FIELD(faults);
    FAULT(next), FAULT(stray), FAULT(silent), FAULT(chatter), FAULT(delays), FAULT(delay_ns), FAULT(starve_until_ns);
    FAULT(cable_ns), FAULT(wrong_id), FAULT(id_offset), FAULT(id_bits), FAULT(id_skips_zero), FAULT(id_kind);
    FAULT(counter_bits), FAULT(counter_is_signed), FAULT(encoder_offset), FAULT(misses_while_exposing);
    FAULT(oldest_first), FAULT(padding), FAULT(padding_is_told), FAULT(short_tells), FAULT(listed), FAULT(vendor);
    FAULT(model), FAULT(plan);
    NODE(missing), NODE(unavailable), NODE(exposure_step_ns), NODE(size_step), NODE(command_ns), NODE(busy_until_ns);
    NODE(user_set);
    printf("camera 0 %zu\n", sizeof(struct camera));
    return 0;
}

/* The numbers that Python uses as well. */
static int print_numbers(void) {
    NUMBER(EFFECT_MISSED), NUMBER(EFFECT_UNPLUGGED), NUMBER(EFFECT_DROPPED), NUMBER(EFFECT_INCOMPLETE);
    NUMBER(EFFECT_SHORT), NUMBER(EFFECT_IDENTICAL), NUMBER(EFFECT_NO_CHUNKS), NUMBER(EFFECT_NO_ID);
    NUMBER(EFFECT_WRONG_ID), NUMBER(EFFECT_TWICE), NUMBER(EFFECT_SWAPPED), NUMBER(EFFECT_STRAY_BEFORE);
    NUMBER(EFFECT_STRAY_AFTER), NUMBER(EFFECT_BITS), NUMBER(PLANNED), NUMBER(PULSES);
    NUMBER(CALL_OPEN), NUMBER(CALL_REGISTER), NUMBER(CALL_START), NUMBER(CALL_ACQUISITION_STOP), NUMBER(CALL_STOP);
    NUMBER(CALL_CLOSE), NUMBER(IDS_COUNT), NUMBER(IDS_ZERO), NUMBER(IDS_ABSENT), NUMBER(LISTED_ONCE);
    NUMBER(LISTED_TWICE), NUMBER(LISTED_BY_TWO), NUMBER(SHORT_TELLS_BOTH), NUMBER(SHORT_TELLS_LINES);
    NUMBER(SHORT_TELLS_SIZE);
    return 0;
}

int main(int count, char **arguments) {
    unsigned run = 0;
    const char *only = count > 1 ? arguments[1] : NULL;
    if (only && strcmp(only, "layout") == 0) return print_layout();
    if (only && strcmp(only, "numbers") == 0) return print_numbers();
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (only && strcmp(only, tests[i].name)) continue;
        uint64_t began = now_ns();
        running = tests[i].name;
        make_world();
        open_library();
        tests[i].run();
        OK(GCCloseLib());
        remove_world();
        printf("%-28s %5.0f ms\n", running, (double)(now_ns() - began) / 1e6);
        fflush(stdout); /* a child must not print it again */
        run++;
    }
    CHECK(run);
    return 0;
}
